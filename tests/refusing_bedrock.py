"""A Bedrock that checks each request with a rule before it answers. Look-ups are denied. Standard library only."""

from __future__ import annotations

import inspect
import json

from scripted_bedrock import Raw, ScriptedBedrock, raw_json


class RefusingBedrock(ScriptedBedrock):
    """Answers as `ScriptedBedrock` does, unless `refuse(body)` returns the message of a ValidationException.

    Answers may also be bytes, sent as they are with status 200. `refuse`, and an answer that is a function, get the
    body and, where they take two arguments, whether it was sent to ConverseStream. `streamed` has the latter of each.
    """

    def __init__(self, *answers, refuse=None):
        super().__init__(*answers)
        self._refuse = refuse

    def __enter__(self):
        super().__enter__()
        self.streamed = []
        outer, answers = self, self._server.answers

        class Handler(self._server.RequestHandlerClass):
            def do_GET(self):  # noqa: N802 - its name
                self.refuse(403, "AccessDeniedException", "You are not authorized to perform this action.")

            def do_POST(self):  # noqa: N802 - its name
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                streamed = self.path.endswith("/converse-stream")
                outer.requests.append(body)
                outer.streamed.append(streamed)
                message = called(outer._refuse, body, streamed) if outer._refuse else None
                if message:
                    self.refuse(400, "ValidationException", message)
                    return
                answer = next(answers)
                answer = called(answer, body, streamed) if callable(answer) else answer
                if isinstance(answer, bytes):
                    self.raw(Raw(answer))
                elif isinstance(answer, dict) and streamed:
                    self.events(self.as_events(answer))
                elif isinstance(answer, dict):
                    self.raw(raw_json(answer))
                else:
                    self.events(answer)

            def refuse(self, status, name, message):
                self.raw(raw_json({"message": message}, status=status, headers={"x-amzn-errortype": name}))

            def events(self, answer):
                super().events([(*event, "exception") if event[0].endswith("Exception") else event for event in answer])

            def as_events(self, answer):
                texts = [block["text"] for block in answer["output"]["message"]["content"]]
                deltas = [
                    ("contentBlockDelta", {"contentBlockIndex": n, "delta": {"text": t}}) for n, t in enumerate(texts)
                ]
                ended = {"usage": answer["usage"], "metrics": answer["metrics"]}
                return [
                    ("messageStart", {"role": "assistant"}),
                    *deltas,
                    ("messageStop", {"stopReason": answer["stopReason"]}),
                    ("metadata", ended),
                ]

        self._server.RequestHandlerClass = Handler
        return self


def called(function, body, streamed):
    return function(body, streamed) if len(inspect.signature(function).parameters) > 1 else function(body)
