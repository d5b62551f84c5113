"""CPU threads of torch: as many as were asked for, else as many as the checkpoint was made with."""

from kwanzaa_trainer.site import Site


def set_threads(site: Site) -> None:
    """Takes as many as the environment says; torch's own choice where it says nothing."""
    import torch

    if site.settings.threads is not None:
        torch.set_num_threads(site.settings.threads)


def match_threads(site: Site, threads: int) -> None:
    """Takes a checkpoint's number, or says that it is another one.

    Sums come out differently in their last bits with another number of threads.
    """
    import torch

    if site.settings.threads is None:
        torch.set_num_threads(threads)
    elif site.settings.threads != threads:
        site.journal.say(
            "threads",
            f"the checkpoint was made with {threads} CPU threads and this machine uses"
            f" {site.settings.threads}: on a CPU the last bits of the losses will differ",
            level="warning",
        )
