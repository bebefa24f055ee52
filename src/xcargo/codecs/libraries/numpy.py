"""numpy's polynomials, and its random generators with where they stand."""

from __future__ import annotations

from typing import Any

__all__ = ["restore", "state"]

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def state(value: Any) -> dict[str, Any]:
    """Coefficients, or what a generator draws next and spawns from."""
    name = type(value).__name__
    if name == "poly1d":
        return {"coef": value.coeffs, "variable": value.variable}
    if name == "Generator":
        return {"bit_generator": value.bit_generator}
    if name == "RandomState":
        return {"state": value.get_state(legacy=False)}
    if name == "SeedSequence":
        return dict(value.state)
    if name in _BIT_GENERATORS:
        return {"seed_seq": _seed_seq(value), "state": value.state}
    return {"coef": value.coef, "domain": value.domain, "window": value.window, "symbol": value.symbol}


def restore(cls: Any, state: dict[str, Any]) -> Any:
    """The value of `state`."""
    import numpy as np

    name = cls.__name__
    if name == "poly1d":
        value = cls(_array(state["coef"]), variable=_text(state["variable"]))
        if value.coeffs.shape != state["coef"].shape:
            raise ValueError("its first coefficient is 0")
        return value
    if name == "Generator":
        bit_generator = state["bit_generator"]
        if not isinstance(bit_generator, np.random.BitGenerator):
            raise TypeError("it is no bit generator")
        return cls(bit_generator)
    if name == "RandomState":
        value = cls(getattr(np.random, _bit_generator(state["state"]["bit_generator"]))())
        value.set_state(_checked(state["state"]))
        return value
    if name == "SeedSequence":
        if type(state["entropy"]) not in (int, list, tuple, np.ndarray) or not 4 <= state["pool_size"] <= 1024:
            raise ValueError("it cannot be seeded by that")  # or takes the square of the pool's size
        return cls(**state)
    if name in _BIT_GENERATORS:
        value = cls(state["seed_seq"])
        value.state = _checked(state["state"])
        return value
    arrays = [_array(state[part]) for part in ("coef", "domain", "window")]
    value = cls(*arrays, symbol=_text(state["symbol"]))
    _, value.domain, value.window = arrays  # of integers by default in numpy 1, which are floats when they are passed
    return value


def _seed_seq(bit_generator: Any) -> Any:
    """What it spawns others from; None if it was seeded in a legacy way, and cannot spawn."""
    seed_seq = getattr(bit_generator, "seed_seq", None)
    return seed_seq if type(seed_seq).__name__ == "SeedSequence" else None


def _bit_generator(name: Any) -> str:
    if name not in _BIT_GENERATORS:
        raise ValueError("it is no bit generator of numpy")
    return str(name)


def _checked(state: Any) -> Any:
    """The state of a bit generator. numpy's compiled code reads beyond its memory for a position outside of it."""
    for position, length in ((state["state"].get("pos", 0), 624), (state.get("buffer_pos", 0), 4)):
        if type(position) is not int or not 0 <= position <= length:
            raise ValueError("its position is outside of its state")
    return state


def _array(value: Any) -> Any:
    import numpy as np

    if type(value) is not np.ndarray:
        raise TypeError("it is no array")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("it is no text")
    return value
