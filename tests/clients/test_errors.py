"""Typed errors of the service's problems."""

import pickle

import pytest

import assessor
from app.problems import KINDS
from clients import errors
from clients.errors import BY_CODE, ServiceError, service_error


@pytest.mark.parametrize("code", sorted(KINDS))
def test_every_problem_of_the_service_has_a_class(code: str) -> None:
    problem = {"type": f"/problems/{code}", "title": "A title", "detail": "expected this; got that"}
    error = service_error(KINDS[code].status, problem)
    assert type(error) is BY_CODE[code]
    assert type(error) is not ServiceError
    assert (error.status, error.type) == (KINDS[code].status, f"/problems/{code}")
    assert (error.title, error.detail) == ("A title", "expected this; got that")
    assert str(error) == f"{KINDS[code].status} A title: expected this; got that"


def test_no_class_without_a_problem() -> None:
    assert set(BY_CODE) <= set(KINDS)


def test_remote_errors_are_the_assessors_own_too() -> None:
    for code, cls in BY_CODE.items():
        if issubclass(cls, assessor.AssessorError):
            local = [c for c in vars(assessor.errors).values() if getattr(c, "code", None) == code]
            assert any(issubclass(cls, c) for c in local)
    with pytest.raises(assessor.GapError):
        raise service_error(409, {"type": "/problems/missing-rows"})


def test_unknown_problems() -> None:
    assert type(service_error(418, {"type": "/problems/new"})) is ServiceError
    assert type(service_error(401, {"type": "about:blank"})) is errors.AuthenticationError
    assert type(service_error(403, {})) is errors.PermissionDeniedError
    assert service_error(500, {}).title == "the service refused the call"


def test_errors_pass_between_processes() -> None:
    error = service_error(409, {"type": "/problems/missing-rows", "title": "t", "detail": "d"})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.RemoteGapError
    assert (copy.status, copy.type, copy.title, copy.detail) == (409, error.type, "t", "d")
