"""A server that is a list of answers."""

import httpx

WRITTEN = {"count": 1, "seq": 17, "token": "9f2c000000000000:17"}


def refusal(status, code, message="no", **headers):
    body = {"status": "error", "error": message, "code": code, "request_id": "r-1"}
    return httpx.Response(status, json=body, headers=headers)


def written(token="9f2c000000000000:17"):
    return httpx.Response(200, json=WRITTEN | {"token": token})


class Script:
    """A server that gives the answers in order, and remembers what it was asked and how long was waited."""

    def __init__(self, *answers):
        self.answers, self.requests, self.waits = list(answers), [], []

    def answer(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def keys(self):
        return [r.headers.get("idempotency-key") for r in self.requests]

    @property
    def asked(self):
        return [f"{r.method} {r.url}" for r in self.requests]
