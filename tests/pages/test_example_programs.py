"""The programs of docs/programs.md run: the text service answers clients, also after bad ones and ones that leave."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.markdown import DOCS, blocks

import cpuruntime as ov

TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)


@pytest.fixture
def service(tmp_path: Path) -> Any:
    """The service of a model that adds up rows of a table, with one stream."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axes"], ["sums"], keepdims=0),
    ]
    ports = [
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch", 4])],
    ]
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.array([1]), "axes")]
    graph = helper.make_graph(nodes, "sums", *ports, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    (page,) = [page for page in DOCS if page.stem == "programs"]
    (program,) = blocks(page, "python")
    names: dict[str, Any] = {"__name__": "service"}
    exec(compile(program, "programs.md", "exec"), names)
    return names["TextService"](str(tmp_path / "m.onnx"), deadline_ms=20_000)


def ask_all(service: Any, lines: list[list[str]]) -> list[list[dict[str, Any]]]:
    """The answers to the lines of each client; the clients ask at the same time."""

    async def client(port: int, asked: list[str]) -> list[dict[str, Any]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = []
        for line in asked:
            writer.write(line.encode() + b"\n")
            answers.append(json.loads(await reader.readline()))
        writer.close()
        return answers

    async def run() -> list[list[dict[str, Any]]]:
        async with await asyncio.start_server(service.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.gather(*(client(port, asked) for asked in lines))

    return asyncio.run(run())


def test_the_text_service_answers_clients_of_texts_of_any_length(service: Any) -> None:
    texts = [[list(range(1 + (client + turn) % 9)) for turn in range(4)] for client in range(6)]
    found = ask_all(service, [[json.dumps({"ids": ids}) for ids in asked] for asked in texts])
    expected = [[{"result": TABLE[ids].sum(0).tolist()} for ids in asked] for asked in texts]
    assert found == expected
    assert 1 <= len(service.idle) <= 6


def test_bad_lines_have_errors_for_answers_and_the_service_goes_on(service: Any) -> None:
    bad = ["{", "[1]", '{"id": [1]}', '{"ids": ["a"]}', '{"ids": [99]}', '{"ids": [0.5, [1]]}', '{"ids": []}']
    (found,) = ask_all(service, [[*bad, '{"ids": [1]}']])
    assert all("error" in answer for answer in found[:-2])
    assert found[-1] == {"result": TABLE[1].tolist()}


def test_a_client_that_leaves_cancels_its_inference(service: Any) -> None:
    async def leave() -> None:
        task = asyncio.create_task(service.infer([1, 2]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await service.infer([3])).tolist() == TABLE[3].tolist()

    asyncio.run(leave())
    assert len(service.idle) == 1
    with pytest.raises(ov.Error):
        asyncio.run(service.infer([99]))
