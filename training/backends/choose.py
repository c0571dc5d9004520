"""Which backend trains: the one asked for, or the first that works here."""

from bundle.errors import ConfigError, KernelUnavailable
from training.backends.base import Backend
from training.config import TrainConfig


def make_backend(config: TrainConfig) -> Backend:
    """The backend asked for; `auto` takes the compiled kernel on the CPU where it can be built, else torch.

    Torch is imported only when it is used: the kernel needs neither it nor its memory.
    """
    by_kernel = config.device == "cpu" and config.products == "float32"
    if config.backend == "compiled" and not by_kernel:
        raise ConfigError(
            f"backend = 'compiled' runs on the CPU in float32; device is {config.device!r}, products are "
            f"{config.products!r}. Use 'auto' or 'torch'."
        )
    if by_kernel and config.backend != "torch":
        from training.backends.compiled import KernelBackend

        try:
            return KernelBackend(config, config.thread_count)
        except KernelUnavailable:
            if config.backend == "compiled":
                raise
    from training.backends.torch_backend import TorchBackend

    return TorchBackend(config, config.thread_count)
