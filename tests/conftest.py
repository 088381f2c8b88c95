"""Options of the test run."""

from __future__ import annotations


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="faults last as long as they may: minutes instead of seconds")
    parser.addoption("--faults-report", metavar="FILE", help="write what became of the faults (make test-faults)")
