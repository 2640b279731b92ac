from __future__ import annotations

import json
from collections.abc import Mapping

from infra.local.store.registry_reads import Reply, answer

FIRST, SECOND = '{"type": "string"}', '{"type": "record", "name": "a", "fields": []}'


class Catalog:
    def by_id(self, id: int) -> str | None:  # noqa: A002
        return {7: FIRST, 9: SECOND}.get(id)

    def subjects(self) -> Mapping[str, int]:
        return {"findings-value": 9, "a/b": 7}

    def versions(self, subject: str) -> list[int]:
        return {"findings-value": [7, 9], "a/b": [7]}.get(subject, [])


def get(path: str) -> Reply:
    return answer(Catalog(), "GET", path, b"")


def test_schemas_by_id() -> None:
    assert get("/schemas/ids/9") == (200, {"schema": SECOND})
    assert get("/schemas/ids/9/schema") == (200, json.loads(SECOND))
    assert get("/schemas/ids/7/subjects") == (200, ["a/b", "findings-value"])
    assert get("/schemas/ids/7/versions") == (200, [{"subject": "a/b", "version": 1}, {"subject": "findings-value", "version": 1}])
    assert get("/schemas/types") == (200, ["AVRO"])
    for path in ("/schemas/ids/8", "/schemas/ids/x", "/schemas/ids/-1", "/schemas/ids/²", "/schemas/ids/8/versions"):
        status, document = get(path)
        assert status == 404
        assert isinstance(document, dict)
        assert document["error_code"] == 40403


def test_subjects_and_versions() -> None:
    assert get("/subjects") == (200, ["a/b", "findings-value"])
    assert get("/subjects/findings-value/versions") == (200, [1, 2])
    latest = {"subject": "findings-value", "id": 9, "version": 2, "schema": SECOND}
    assert get("/subjects/findings-value/versions/latest") == (200, latest)
    assert get("/subjects/findings-value/versions/2") == (200, latest)
    assert get("/subjects/findings-value/versions/1/schema") == (200, json.loads(FIRST))
    assert get("/subjects/a%2Fb/versions/1") == (200, {"subject": "a/b", "id": 7, "version": 1, "schema": FIRST})


def code(reply: Reply) -> tuple[int, object]:
    assert isinstance(reply[1], dict)
    assert set(reply[1]) == {"error_code", "message"}
    return reply[0], reply[1]["error_code"]


def test_what_is_not_there() -> None:
    assert code(get("/subjects/none/versions")) == (404, 40401)
    assert code(get("/subjects/none/versions/latest")) == (404, 40401)
    assert code(get("/subjects/a%2Fb/versions/2")) == (404, 40402)
    assert code(get("/subjects/a%2Fb/versions/0")) == (422, 42202)
    assert code(get("/schemas/nonsense")) == (404, 404)


def test_lookup() -> None:
    def post(subject: str, schema: str) -> Reply:
        return answer(Catalog(), "POST", f"/subjects/{subject}", json.dumps({"schema": schema}).encode())

    assert post("findings-value", '{"type":"string"}') == (200, {"subject": "findings-value", "id": 7, "version": 1, "schema": FIRST})
    assert code(post("findings-value", '"int"')) == (404, 40403)
    assert code(post("none", FIRST)) == (404, 40401)
    assert code(post("findings-value", "{")) == (422, 42201)
    assert code(answer(Catalog(), "POST", "/subjects/findings-value", b"[]")) == (422, 42201)


def test_it_never_writes() -> None:
    assert code(answer(Catalog(), "POST", "/subjects/findings-value/versions", b"{}")) == (405, 405)
    assert code(answer(Catalog(), "DELETE", "/subjects/findings-value", b"")) == (405, 405)
    assert code(answer(Catalog(), "PUT", "/config", b"{}")) == (405, 405)
