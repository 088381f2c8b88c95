"""A sidecar that serves stays until another can take its place."""

from __future__ import annotations

from lab.injector import byfahrer


def test_an_image_that_is_not_there_replaces_nothing(lab):
    www = lab.run(asks=False)
    made = byfahrer("inject", f"{lab.mark}-www")
    assert made.code == 0, made.err
    (before,) = lab.sidecars(www)
    failed = byfahrer("inject", f"{lab.mark}-www", "--image", "sslterm:nope")

    assert failed.code == 1
    assert "image 'sslterm:nope' is not on this engine" in failed.err
    assert [each["Id"] for each in lab.sidecars(www)] == [before["Id"]]
    lab.becomes_served(www)
