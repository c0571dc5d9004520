"""Which backend trains: the one asked for, or the first that works here."""

from bundle.errors import ConfigError, KernelUnavailable
from training.backends.base import Backend
from training.config import TrainConfig


def make_backend(config: TrainConfig) -> Backend:
    """The backend asked for; `auto` takes the compiled kernel on the CPU where it can be built, else torch.

    Torch is imported only when it is used: the kernel needs neither it nor its memory.
    """
    check_numbers(config)
    if _by_kernel(config) and config.backend != "torch":
        from training.backends.compiled import KernelBackend

        try:
            return KernelBackend(config, config.thread_count)
        except KernelUnavailable:
            if _only_by_kernel(config):
                raise
    from training.backends.torch_backend import TorchBackend

    return TorchBackend(config, config.thread_count)


def check_numbers(config: TrainConfig) -> None:
    """Raise ConfigError where no backend multiplies what is asked for, where it is asked for."""
    if _only_by_kernel(config) and (not _by_kernel(config) or config.backend == "torch"):
        raise ConfigError(
            f"backend = {config.backend!r}, products = {config.products!r} and device = {config.device!r} do not go "
            "together: the compiled kernel runs on the CPU in float32 or int16, torch in float32 or bfloat16. Leave "
            "backend and products at 'auto'."
        )


def _by_kernel(config: TrainConfig) -> bool:
    return config.device == "cpu" and config.products != "bfloat16"


def _only_by_kernel(config: TrainConfig) -> bool:
    return config.backend == "compiled" or config.products == "int16"
