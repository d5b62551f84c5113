"""`publish`: a finished adapter to a repository of the Hub."""

from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.options import AsJson, RunId, open_compute
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.errors import EXIT_OK

Repo = Annotated[
    str | None,
    Parameter(name="--repo", help="OWNER/NAME, or NAME; default: publishing.hf_repo."),
]
Public = Annotated[
    bool, Parameter(name="--public", negative="", help="Let everybody see it; private without.")
]


def publish(
    run: RunId, /, *, repo: Repo = None, public: Public = False, as_json: AsJson = False
) -> int:
    """Send the adapter of RUN to the Hugging Face Hub, with a card that says what it took.

    Private unless you say --public. Again: what was interrupted goes on, what is there is
    updated. The token comes from HF_TOKEN. The configuration that is published with it names the
    files that it was trained on.
    """
    from kwanzaa_compute.compute.publishing import publish as publish_run

    screen, compute = Screen(as_json=as_json), open_compute()
    found = compute.run(run)
    published = publish_run(compute, found, repo, private=not public, say=screen.talk)
    if as_json:
        known = [{"url": one.url, "revision": one.revision} for one in published]
        screen.json({"run": found.id, "private": not public, "published": known})
    else:
        for one in published:
            screen.write(one.url)
    return EXIT_OK
