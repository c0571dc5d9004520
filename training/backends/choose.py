"""Which backend trains: the one asked for, or the first that works here."""

from bundle.errors import ConfigError, KernelUnavailable
from training.backends.base import Backend
from training.config import TrainConfig


def make_backend(config: TrainConfig) -> Backend:
    """The backend asked for; `auto` takes the compiled kernel on the CPU where it can be built, else torch.

    Torch is imported only when it is used: the kernel needs neither it nor its memory.
    """
    by_kernel = config.device == "cpu" and config.products != "bfloat16"
    only_kernel = config.backend == "compiled" or config.products == "int16"
    if only_kernel and (not by_kernel or config.backend == "torch"):
        raise ConfigError(
            f"backend = {config.backend!r}, products = {config.products!r} and device = {config.device!r} do not go "
            "together: the compiled kernel runs on the CPU in float32 or int16, torch in float32 or bfloat16. Leave "
            "backend and products at 'auto'."
        )
    if by_kernel and config.backend != "torch":
        from training.backends.compiled import KernelBackend

        try:
            return KernelBackend(config, config.thread_count)
        except KernelUnavailable:
            if only_kernel:
                raise
    from training.backends.torch_backend import TorchBackend

    return TorchBackend(config, config.thread_count)
