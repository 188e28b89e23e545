"""Test the documents of the emulator's knowledge bases: reading folders, searching, and the built-in library."""

from __future__ import annotations

import base64
import gc
import json
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from knowledge_base_calls import chunk, collection

from bedrock_routing_integrations import emulator
from bedrock_routing_integrations.emulator.canned_models.answers import statements
from bedrock_routing_integrations.emulator.service import documents as collection_module
from bedrock_routing_integrations.emulator.service.documents import LONGEST, Collection, cut, shipped

PNG = b"\x89PNG\r\n\x1a\n-one"
LIBRARY = Path(emulator.__file__).parent / "library"
QUESTIONS = [
    ("What is the most volcanically active body in the Solar System?", "io.md", "Io is the most volcanically active"),
    ("What are the lakes and seas of Titan made of?", "titan.md", "liquid methane and ethane"),
    ("Which moon orbits its planet backwards?", "triton.md", "Triton is the only large moon that orbits"),
    ("Who was the first person to walk on the Moon?", "moon.md", "Neil Armstrong"),
    ("Which moon has a magnetic field of its own?", "ganymede.md", "Ganymede is the only moon known"),
    ("How much water does the ocean of Europa hold?", "europa.md", "twice as much water"),
    ("What is the largest impact structure on Callisto?", "callisto.md", "Valhalla"),
    ("Which spacecraft discovered plumes on Enceladus?", "enceladus.md", "Cassini discovered plumes"),
    ("Who discovered Charon?", "charon.md", "James Christy"),
    ("What is the largest crater of Phobos called?", "phobos.md", "Stickney"),
    ("After whom are the moons of Uranus named?", "moon-names-and-orbits.pdf", "Shakespeare and Alexander Pope"),
    ("Who discovered Titania?", "titania.mp3", "William Herschel"),
]


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def read(folder, files):
    return Collection.from_folder(write(folder, files)).chunks()


def found(library, query, **options):
    return [each.text for each, _ in library.search(query, **options)]


# --- a folder


def test_each_file_type_becomes_the_services_content_type(tmp_path):
    metadata = {name: {"metadataAttributes": {key: "Titan"}} for name, key in [
        ("p.png", "description"), ("s.mp3", "transcription"), ("f.mp4", "summary"),
    ]}  # fmt: skip
    files = {"h.html": "<p>Io &amp; Europa</p><script>no()</script>", "m.md": "# Io\n\nHot.", "t.txt": "Cold.",
             "p.png": PNG, "s.mp3": b"ID3", "f.mp4": b"mp4", "red_moon.webp": PNG, "c.csv": "name,n\nIo,3\n",
             "j.json": {"deep": {"name": "Io"}}}  # fmt: skip
    files |= {f"{name}.metadata.json": sidecar for name, sidecar in metadata.items()}
    chunks = {each.document_id: each for each in read(tmp_path, files)}
    uri = "data:image/{};base64," + base64.b64encode(PNG).decode()
    assert {name: each.content for name, each in chunks.items()} == {
        "h.html": {"type": "TEXT", "text": "Io & Europa"},
        "m.md": {"type": "TEXT", "text": "# Io\n\nHot."},
        "t.txt": {"type": "TEXT", "text": "Cold."},
        "p.png": {"type": "IMAGE", "byteContent": uri.format("png")},
        "red_moon.webp": {"type": "IMAGE", "byteContent": uri.format("webp")},
        "s.mp3": {"type": "AUDIO", "audio": {"s3Uri": "s3://emulated-knowledge-base/s.mp3", "transcription": "Titan"}},
        "f.mp4": {"type": "VIDEO", "video": {"s3Uri": "s3://emulated-knowledge-base/f.mp4", "summary": "Titan"}},
        "c.csv": {"type": "ROW", "row": [{"columnName": "name", "columnValue": "Io", "type": "STRING"},
                                         {"columnName": "n", "columnValue": "3", "type": "LONG"}]},
        "j.json": {"type": "TEXT", "text": '{\n "deep": {\n  "name": "Io"\n }\n}'},
    }  # fmt: skip
    assert [chunks[name].text for name in ("p.png", "red_moon.webp", "c.csv")] == [
        "Titan",
        "red moon",
        "name: Io, n: 3",
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [("3", "LONG"), ("-0", "LONG"), ("9" * 30, "DOUBLE"), ("1.5e-3", "DOUBLE"), ("-.5", "DOUBLE"), ("True", "BOOLEAN"),
     ("", "NULL"), ("00501", "STRING"), ("1\uff12", "STRING"), ("1.2.3", "STRING"), ("NaN", "STRING")],
)  # fmt: skip
def test_cells_have_the_types_of_a_structured_store(tmp_path, value, kind):
    (row,) = read(tmp_path, {"t.csv": f"name,cell\nx,{value}\n"})
    assert row.content["row"][1]["type"] == kind
    assert ("columnValue" in row.content["row"][1]) == (kind != "NULL")


def test_list_of_json_objects_becomes_typed_rows(tmp_path):
    (row,) = read(tmp_path, {"t.json": [{"a": True, "b": None, "c": 0, "d": "x"}]})
    kinds = {column["columnName"]: (column["type"], column.get("columnValue")) for column in row.content["row"]}
    assert kinds == {"a": ("BOOLEAN", "true"), "b": ("NULL", None), "c": ("LONG", "0"), "d": ("STRING", "x")}


def test_table_may_have_any_script_and_byte_order_mark(tmp_path):
    (row,) = read(tmp_path, {"t.csv": "\ufeffname,größe\n土星,3\n"})
    assert row.text == "name: 土星, größe: 3"


def test_a_long_number_in_a_cell_takes_no_time(tmp_path):
    started = time.process_time()
    read(tmp_path, {"t.csv": f"name\n{'1' * 100_000}x\n"})  # read by a careless pattern it takes minutes
    assert time.process_time() - started < 5


def test_metadata_files_of_both_forms_keep_the_services_attributes(tmp_path):
    typed = {"s": {"value": {"type": "STRING", "stringValue": "x"}},
             "n": {"value": {"type": "NUMBER", "numberValue": 2}},
             "b": {"value": {"type": "BOOLEAN", "booleanValue": False}},
             "l": {"value": {"type": "STRING_LIST", "stringListValue": ["y"]}}}  # fmt: skip
    plain = {"s": "x", "n": 2, "b": False, "l": ["y"], "x-amz-bedrock-kb-source-uri": "forged"}
    files = {"a.txt": "A", "b.txt": "B"}
    files |= {
        "a.txt.metadata.json": {"metadataAttributes": typed},
        "b.txt.metadata.json": {"metadataAttributes": plain},
    }
    for each in read(tmp_path, files):
        own = {key: each.metadata[key] for key in each.metadata if key.startswith("x-amz-bedrock-kb-")}
        assert {key: value for key, value in each.metadata.items() if key not in own} == {
            "s": "x", "n": 2, "b": False, "l": ["y"],
        }  # fmt: skip
        assert own.keys() == {f"x-amz-bedrock-kb-{name}" for name in ("source-uri", "chunk-id", "data-source-id")}
        uri = f"s3://emulated-knowledge-base/{each.document_id}"
        assert own["x-amz-bedrock-kb-source-uri"] == each.location["s3Location"]["uri"] == uri


@pytest.mark.parametrize(
    "sidecar",
    ["{", "[]", "{}", '{"metadataAttributes": null}', '{"metadataAttributes": {"a": null}}', b"\xff\xfe",
     '{"metadataAttributes": {"a": NaN}}', '{"metadataAttributes": {"a": [1]}}', "[" * 100_000,
     '{"metadataAttributes": {"a": {"b": 1}}}', '{"metadataAttributes": {"a": {"value": {"type": "NUMBER"}}}}'],
)  # fmt: skip
def test_a_broken_sidecar_is_an_error_that_names_it(tmp_path, sidecar):
    with pytest.raises(ValueError, match=r"t\.txt\.metadata\.json is no metadata file: it must hold"):
        read(tmp_path, {"t.txt": "x", "t.txt.metadata.json": sidecar})


def test_unreadable_empty_and_hidden_files_are_skipped(tmp_path, caplog):
    left_out = {"empty.txt": "", "blank.md": " \n", "broken.json": "{", "nothing.json": "[]", "odd.exe": "x",
                "scan.pdf": b"%PDF-1.4 no text", "head.csv": "a,b\n"}  # fmt: skip
    hidden = {".hidden.txt": "x", ".git/config.txt": "x", "lonely.metadata.json": "{"}
    chunks = read(tmp_path, {"good.txt": "Good.", **left_out, **hidden})
    assert [each.document_id for each in chunks] == ["good.txt"]
    assert len(caplog.messages) == len(left_out)
    assert all(any(name in message for message in caplog.messages) for name in left_out)


def test_a_folder_without_documents_and_no_folder_are_errors(tmp_path):
    with pytest.raises(ValueError, match="holds no document that can be read"):
        Collection.from_folder(tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        Collection.from_folder(tmp_path / "absent")


def test_links_outside_the_folder_or_in_circles_are_skipped(tmp_path, caplog):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    write(outside, {"secret.txt": "Secret.", "secret.json": {"metadataAttributes": {"secret": "yes"}}})
    write(folder, {"real.txt": "Real."})
    try:
        for name, target in [("file.txt", outside / "secret.txt"), ("folder", outside), ("loop", folder),
                             ("self.txt", "self.txt"), ("gone.txt", "gone"), ("alias.txt", "real.txt"),
                             ("real.txt.metadata.json", outside / "secret.json")]:  # fmt: skip
            (folder / name).symlink_to(target)
    except OSError:
        pytest.skip("no symbolic links here")
    chunks = Collection.from_folder(folder).chunks()
    assert {each.document_id: each.text for each in chunks} == {"alias.txt": "Real.", "real.txt": "Real."}
    assert not any("secret" in each.metadata for each in chunks)
    assert "file.txt' is left out of the knowledge base: it is a link" in caplog.text


def test_file_name_outside_unicode_is_skipped(tmp_path, caplog):
    write(tmp_path, {"good.txt": "Good."})
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.txt")).write_text("Bad.")
    except OSError:
        pytest.skip("names are Unicode here")
    assert [each.text for each in Collection.from_folder(tmp_path).chunks()] == ["Good."]
    assert "its name is no Unicode" in caplog.text


def test_names_and_texts_of_any_script_arrive_unchanged(tmp_path):
    name, text = "Monde/土星 \N{FULL MOON SYMBOL}.md", "Titan ist größer. 土星"
    (each,) = read(tmp_path, {name: f"\ufeff{text}"})
    assert each.location["s3Location"]["uri"] == f"s3://emulated-knowledge-base/{name}"
    assert each.content["text"] == text


def test_order_and_ids_depend_on_names_and_texts_alone(tmp_path):
    files = {"b.txt": "B", "a/z.txt": "Z", "a.txt": "A " * 1_000, "B.md": "M"}
    one = read(tmp_path / "one", files)
    assert read(tmp_path / "two", dict(reversed(files.items()))) == one
    ids = [each.metadata["x-amz-bedrock-kb-chunk-id"] for each in one]
    assert len(set(ids)) == len(ids) == 5
    assert [each.document_id for each in one] == sorted(each.document_id for each in one)


@given(st.lists(st.sampled_from(["word ", "End. ", "\n", "\n\n", "# Title\n", "x" * 700, "\u6708\u3002"]), max_size=60))
def test_chunks_are_short_and_lose_nothing(pieces):
    text = "".join(pieces)
    chunks = cut(text)
    assert all(0 < len(each) <= LONGEST and each == each.strip() for each in chunks)
    assert "".join("".join(chunks).split()) == "".join(text.split())


def test_a_pdf_is_read_page_by_page():
    pages = [each for each in shipped().chunks() if each.document_id.endswith(".pdf")]
    assert [each.metadata["x-amz-bedrock-kb-document-page-number"] for each in pages] == [1, 2]


# --- searching


@pytest.mark.parametrize(
    "query",
    ['"', '"whale', "whale*", "^whale", "whale NEAR squid", "NEAR(whale squid)", "text:whale", "-whale", "(whale",
     "whale AND OR NOT", "{text} : whale", "whale + squid", "whale; DROP TABLE words;--", "whale' OR '1'='1", "whale\0",
     "\ud800 whale", "whale\u2028", "\N{WHALE}", "\U0001e900", "rowid", "words", "*", "whale)", "whale " * 4_000],
)  # fmt: skip
def test_nothing_in_a_query_is_syntax(query):
    library = collection(chunk("The whale sings."), chunk("A squid swims.", 1))
    hits = set(found(library, query))
    assert hits == {
        text for text, word in [("The whale sings.", "whale"), ("A squid swims.", "squid")] if word in query
    }
    assert len(library) == 2


def test_longest_query_is_searched_by_its_first_words():
    many = " ".join(f"w{number}" for number in range(4_000))
    assert len(many) > 20_000
    assert found(collection(chunk("The whale sings."), chunk("zebra", 1)), f"whale {many} zebra") == [
        "The whale sings."
    ]


@pytest.mark.parametrize("query", ["", "  ", "?!", "\N{GRINNING FACE}", "zebra"])
def test_a_query_without_a_word_of_the_collection_finds_nothing(query):
    assert found(collection(chunk("The whale sings.")), query) == []


def test_stop_words_count_only_where_there_is_nothing_else():
    library = collection(chunk("The whale sings."), chunk("Who is it?", 1))
    assert found(library, "who is the whale") == ["The whale sings."]
    assert found(library, "who is it") == ["Who is it?"]


@pytest.mark.parametrize(
    ("query", "text"),
    [("cafe", "Un café"), ("CAFÉ", "Un cafe"), ("cafe\u0301", "café"), ("moons", "One moon"), ("луна", "Луна"),
     ("ΤΙΤΑΝ", "τιταν"), ("土星", "泰坦是土星的衛星。"), ("衛星は", "タイタンは土星の衛星"),
     ("ดวงจันทร์", "ไททันเป็นดวงจันทร์"),
     ("타이탄", "타이탄은 크다"), ("हिन्दी", "हिन्दी भाषा"), ("\U00020000", "a\U00020000\U00020001b")],
)  # fmt: skip
def test_words_meet_in_any_script(query, text):
    assert found(collection(chunk(text), chunk("zebra", 1)), query) == [text]


WORDS = st.lists(st.sampled_from(["whale", "squid", "krill", "whales", "the", "\u6708", '"', "NOT"]), max_size=6)


@given(st.lists(WORDS, max_size=8), WORDS, st.booleans())
def test_scores_fall_and_stay_between_0_and_1(texts, query, exact):
    library = collection(*(chunk(" ".join(words), number) for number, words in enumerate(texts)))
    hits = library.search(" ".join(query), exact_words=exact)
    scores = [score for _, score in hits]
    assert all(0 < score < 1 for score in scores)
    assert scores == sorted(scores, reverse=True)
    assert hits == library.search(" ".join(query), exact_words=exact)


def test_of_equal_chunks_the_first_added_comes_first():
    library = collection(*(chunk("One whale.", number) for number in range(9)))
    assert [each.document_id for each, _ in library.search("whale")] == [f"document-{number}" for number in range(9)]


def test_hybrid_search_prefers_words_as_they_are_written():
    stemmed, exact = chunk("moons moons", 1), chunk("one moon", 2)
    library = collection(stemmed, exact, chunk("nothing", 3))
    by_meaning, hybrid = library.search("moon"), library.search("moon", exact_words=True)
    assert [each for each, _ in by_meaning] == [stemmed, exact]
    assert [each for each, _ in hybrid] == [exact, stemmed]
    assert by_meaning[0][1] == hybrid[1][1]  # a chunk without an exact word loses no score


def test_a_collection_can_be_filled_and_searched_from_many_threads():
    library, failures = collection(chunk("whale")), []

    def work(number):
        try:
            for turn in range(25):
                library.add(chunk(f"whale thread{number}", number * 25 + turn))
                assert len(library.search(f"thread{number}")) == turn + 1
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(library) == len(library.search("whale")) == 201


@pytest.mark.sweep
def test_a_collection_that_is_dropped_closes_its_index():
    library = collection(chunk("whale"))
    index = library._index
    del library
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        index.execute("SELECT 1")


def test_sqlite_without_full_text_search_is_reported(monkeypatch):
    class Without(sqlite3.Connection):
        def execute(self, statement, *arguments):
            return super().execute(statement.replace("fts5(", "fts5_is_not_here("), *arguments)

    connect = sqlite3.connect
    monkeypatch.setattr(collection_module.sqlite3, "connect", lambda *a, **k: connect(*a, factory=Without, **k))
    with pytest.raises(
        RuntimeError, match=r"needs SQLite with FTS5, which this Python's SQLite 3\..* lacks \(no such module"
    ):
        Collection()


# --- the library that ships


@pytest.mark.parametrize(("question", "file", "phrase"), QUESTIONS)
@pytest.mark.parametrize("exact", [False, True])
def test_the_library_that_ships_answers(question, file, phrase, exact):
    hits = [each for each, _ in shipped().search(question, exact_words=exact)]
    assert Path(hits[0].document_id).name == file
    for thorough in (False, True):
        found_statements = statements(question, [each.text for each in hits[:5]], thorough=thorough)
        assert phrase in found_statements[0].text
        assert 0 in found_statements[0].passages


def test_library_is_small_and_has_every_content_type_but_video():
    assert sum(path.stat().st_size for path in LIBRARY.rglob("*") if path.is_file()) <= 60_000
    assert {each.content["type"] for each in shipped().chunks()} == {"TEXT", "ROW", "IMAGE", "AUDIO"}
