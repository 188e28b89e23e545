"""A scripted Bedrock that counts the tokens of each prompt by a rule, and may answer CountTokens."""

from __future__ import annotations

import json
import urllib.parse

from scripted_bedrock import ScriptedBedrock, raw_json, whole_of


class CountingBedrock(ScriptedBedrock):
    """Count `overhead` tokens and one per `per_token` bytes of the prompt; CountTokens answers `counts`."""

    def __init__(self):
        self.per_token, self.overhead, self.counts, self.counted = 4.0, 0, None, []
        self.refusal, self.headers = "The provided model doesn't support counting tokens.", []
        super().__init__(self._answer)

    def count(self, request):
        prompt = [request.get(name) for name in ("toolConfig", "system", "messages")]
        return round(self.overhead + sum(len(text.encode()) for text in strings(prompt)) / self.per_token)

    def _answer(self, request):
        tokens = self.count(request)
        return whole_of({"text": "ok"}, usage={"inputTokens": tokens, "outputTokens": 1, "totalTokens": tokens + 1})

    def __enter__(self):
        super().__enter__()
        outer = self

        class Handler(self._server.RequestHandlerClass):
            def do_POST(self):  # noqa: N802 - its name
                path = urllib.parse.unquote(self.path)
                if not path.endswith("/count-tokens"):
                    super().do_POST()
                    return
                model = path.split("/")[2]
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                outer.counted.append((model, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                counts = outer.counts
                tokens = counts[model] if isinstance(counts, dict) else counts
                if tokens is None:
                    body = json.dumps({"message": outer.refusal}).encode()
                    self.send_response(400)
                    self.send_header("x-amzn-errortype", "ValidationException")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                self.raw(raw_json({"inputTokens": tokens}))

        self._server.RequestHandlerClass = Handler
        return self


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
