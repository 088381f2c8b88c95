"""
Any bytes, guided by what the code does with them: the same promises as in test_many_readers.

    make fuzz SECONDS=600                          look for an input that breaks one
    .venv/bin/python tests/fuzz/fuzz_http.py FILE…      try these inputs again (without atheris)
    .venv/bin/python tests/fuzz/fuzz_http.py --seeds FOLDER

The first byte of an input says who sends (even: a client, odd: a backend), the second how it is cut into pieces; the
rest is the stream. What is found goes into tests/corpus/found as a case of its own: trying a file again prints it.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
GUIDED = len(sys.argv) > 1 and sys.argv[1] == "--guided"
if GUIDED:
    import atheris

    with atheris.instrument_imports(include=["sslterm"]):
        import sslterm.protocol.http_flow  # noqa: F401 - to be instrumented

from lab.corpus import CASES  # noqa: E402 - after what they import has been instrumented
from lab.exchange import REFUSALS, read_requests, read_response  # noqa: E402
from lab.readers import requests_by_both, response_by_h11  # noqa: E402


def cut(wire: bytes, how: int) -> list[bytes]:
    """Pieces of a size that the input chose; 0 stands for any sizes."""
    if how:
        return [wire[at : at + how] for at in range(0, len(wire), how)]
    sizes = random.Random(len(wire))
    pieces = []
    while wire:
        size = sizes.randint(1, 40)
        pieces.append(wire[:size])
        wire = wire[size:]
    return pieces


def check(data: bytes) -> None:
    """AssertionError, or whatever else comes, if a promise is broken."""
    if len(data) < 3:
        return
    side, how, wire = data[0], data[1], data[2:]
    if side % 2:
        outcome, exchange = read_response([wire])
        assert outcome.end in ("idle", "closed", "more", "502"), outcome
        assert read_response(cut(wire, how))[0].whole == outcome.whole, outcome
        if exchange.to_client:
            ended = outcome.end == "closed" and not exchange.flow.lost
            assert (response_by_h11(exchange.to_client, ended=ended) is None) == exchange.flow.lost, outcome
    else:
        outcome, exchange = read_requests([wire])
        assert not outcome.refused or int(outcome.end) in REFUSALS, outcome
        assert read_requests(cut(wire, how))[0] == outcome, outcome
        seen = [message for stream in exchange.backends for message in requests_by_both(stream)]
        assert len(seen) == outcome.whole, (outcome, seen)


def write_seeds(folder: Path) -> None:
    """Each case of the corpus as an input."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(CASES):
        if len(case.wire) < 3000:
            (folder / str(number)).write_bytes(bytes([case.side == "response", number % 50]) + case.wire)


def show(data: bytes) -> None:
    """An input as a case of the corpus."""
    side, wire = ("response" if data[0] % 2 else "request"), data[2:]
    outcome, _ = (read_response if data[0] % 2 else read_requests)([wire])
    case = {"name": "?", "side": side, "wire": wire.decode("latin-1"), "theirs": "refuse", "ours": str(outcome)}
    print(json.dumps(case))


def main(arguments: list[str]) -> None:
    if GUIDED:
        atheris.Setup([sys.argv[0], *arguments[1:]], check)
        atheris.Fuzz()
    elif arguments[:1] == ["--seeds"]:
        write_seeds(Path(arguments[1]))
    else:
        for each in arguments:
            data = Path(each).read_bytes()
            show(data)
            check(data)


if __name__ == "__main__":
    main(sys.argv[1:])
