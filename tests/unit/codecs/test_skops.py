"""scikit-learn's estimators, and which classes in them may be rebuilt."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sklearn.base
import sklearn.cluster
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing

from tests.unit.codecs.known_classes import KnownClasses
from xcargo.codecs import Codec, Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.testing import CodecTests


class Doubler(sklearn.base.BaseEstimator):  # type: ignore[misc]
    """A user's own estimator."""

    def __init__(self, factor: float = 2) -> None:
        self.factor = factor


SAMPLES = np.random.default_rng(1).random((30, 3))
LABELS = SAMPLES[:, 0] > 0.5


class TestSkops(CodecTests):
    """Fitted models of scikit-learn, and an estimator of a class that may be rebuilt."""

    VALUES: Sequence[Any] = (
        sklearn.linear_model.LogisticRegression(C=0.5).fit(SAMPLES, LABELS),
        sklearn.pipeline.make_pipeline(
            sklearn.preprocessing.StandardScaler(), sklearn.cluster.KMeans(2, n_init=1, random_state=1)
        ).fit(SAMPLES),
        Doubler(3),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return Registry(classes=KnownClasses(__name__), entry_points=False).codec("skops")

    def equal(self, left: Any, right: Any) -> bool:
        if type(left) is not type(right) or repr(left.get_params()) != repr(right.get_params()):
            return False
        return not hasattr(left, "predict") or list(left.predict(SAMPLES)) == list(right.predict(SAMPLES))


def test_an_estimator_of_a_class_that_is_not_allowed_is_refused() -> None:
    """When it is pushed, naming the class and both ways out; and when a forged one is pulled."""
    payload = contiguous(Registry(classes=KnownClasses(__name__)).encode(Doubler(3)))
    strict = Registry(classes=KnownClasses(), entry_points=False)
    with pytest.raises(UnsupportedTypeError, match=r"test_skops.Doubler may not be rebuilt.*allow_pickle"):
        strict.encode(Doubler(3))
    with pytest.raises(DecodeError, match="Doubler may not be rebuilt"):
        strict.decode("skops", payload, {})


def test_skops_missing_is_a_refusal_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the push, so that a deployment that allows pickles goes on to use them."""
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(UnsupportedTypeError, match=r"pip install 'airflow-provider-xcargo\[sklearn\]'"):
        Registry(classes=KnownClasses()).encode(sklearn.cluster.KMeans())
