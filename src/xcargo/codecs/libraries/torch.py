"""torch's tensors, as the bytes of their elements; every dtype, those that numpy does not know too."""

from __future__ import annotations

import math
from typing import Any

from xcargo.errors import UnsupportedTypeError

__all__ = ["restore", "state"]

_ALIGNMENT = 16  # of the largest element, complex128


def state(value: Any) -> dict[str, Any]:
    """Bytes, dtype, shape and whether gradients are recorded. Copies a tensor that is not contiguous."""
    import torch

    if isinstance(value, torch.Size):
        return {"shape": list(value)}
    if isinstance(value, (torch.dtype, torch.device)):
        return {"name": str(value).removeprefix("torch.")}
    if value.device.type != "cpu":
        raise _refused(f"on the device {value.device}", "Return value.cpu(): the next task may have no such device.")
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        raise _refused("that is sparse, quantized or nested", "Return the tensors that it consists of.")
    if value.grad_fn is not None:
        raise _refused("that is part of a graph", "Return value.detach(), or call backward() before.")
    plain = value.detach().resolve_conj().resolve_neg().contiguous()
    return {
        "dtype": str(value.dtype).removeprefix("torch."),
        "shape": list(value.shape),
        "data": plain.reshape(-1).view(torch.uint8).numpy(),
        "requires_grad": value.requires_grad,
    }


def restore(cls: Any, state: dict[str, Any]) -> Any:
    """The value of `state`. Raises ValueError for bytes that do not fit dtype and shape."""
    import torch

    if cls is torch.Size:
        return cls(state["shape"])
    if cls is torch.device:
        return cls(str(state["name"]))
    if cls is torch.dtype:
        return _dtype(torch, state["name"])
    dtype, shape, data = _dtype(torch, state["dtype"]), state["shape"], state["data"]
    if data.dtype != "uint8" or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != data.size:
        raise ValueError(f"{data.size} bytes are no tensor of dtype {dtype} and shape {shape}")
    if data.ctypes.data % _ALIGNMENT or not data.flags.writeable:
        data = data.copy()
    # No view of an empty tensor has another element size.
    flat = torch.from_numpy(data).view(dtype) if data.size else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(shape)
    if cls is not torch.Tensor:
        return cls(tensor, requires_grad=bool(state["requires_grad"]))
    return tensor.requires_grad_(bool(state["requires_grad"]))


def _dtype(torch: Any, name: Any) -> Any:
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"torch has no dtype {str(name)[:40]!r}")
    return dtype


def _refused(what: str, hint: str) -> UnsupportedTypeError:
    return UnsupportedTypeError(f"A torch tensor {what} cannot be stored", hint=hint)
