"""A device `sim` that computes on the processor and refuses what an accelerator would: operands on two devices.

So that code which forgets to move a tensor fails on machines without an accelerator, too. Numbers are those of the
processor, to the bit.
"""

import torch
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

SIM = "sim"
_CROSSING = ("aten::copy_", "aten::_to_copy")  # what moves between devices


class Simulated(torch.Tensor):
    """A tensor on the device; `held` is what it stands for."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        found = torch.Tensor._make_wrapper_subclass(cls, held.size(), device=torch.device(SIM, 0), **layout)
        found.held = held
        return found

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def numpy(self, *, force: bool = False):
        """As torch has it for any accelerator."""
        if not force:
            raise TypeError(f"can't convert {SIM} device type tensor to numpy")
        return self.detach().cpu().numpy()

    def tolist(self):
        """As torch has it for any accelerator."""
        return self.cpu().tolist()

    def __repr__(self):
        return f"{SIM}: {self.held!r}"


def _run(operation, args, kwargs):
    tensors = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    mine = [each for each in tensors if isinstance(each, Simulated)]
    others = [each for each in tensors if not isinstance(each, Simulated) and each.dim()]
    name = operation._schema.name
    if mine and others and name not in _CROSSING:
        raise RuntimeError(f"{name}: operands on '{SIM}' and on '{others[0].device}'")
    target = kwargs.get("device")
    known = {id(each.held): each for each in mine}
    args, kwargs = pytree.tree_map(lambda each: each.held if isinstance(each, Simulated) else each, (args, kwargs))
    found = operation(*args, **kwargs | ({"device": torch.device("cpu")} if target is not None else {}))
    if name == "aten::copy_":
        return tensors[0]
    if name == "aten::_to_copy" and target is not None and torch.device(target).type == "cpu":
        return found
    return pytree.tree_map(
        lambda each: known.get(id(each), Simulated(each)) if isinstance(each, torch.Tensor) else each, found
    )


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of a device's module. It has no random numbers of its own."""

    def get_rng_state(self, device=None):
        return torch.empty(0)

    def set_rng_state(self, state, device=None):
        pass

    def get_amp_supported_dtype(self):
        return [torch.float16]


# before the first derivative is taken in this process: autograd counts the devices then
backend_registration._setup_privateuseone_for_python_backend(SIM, backend_module=_Module())
_library = torch.library.Library("_", "IMPL")  # what it registers lives as long as this reference
_library.fallback(lambda operation, *args, **kwargs: _run(operation, args, kwargs), "PrivateUse1")
