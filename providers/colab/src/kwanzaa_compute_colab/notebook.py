"""A run as a notebook: five cells that hold everything it needs, and no secret."""

import base64
import io
import pprint
import textwrap
import zipfile
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from kwanzaa_compute.drivers.handover import Handover, Notebook
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute_colab.in_colab import CODE, FILES
from kwanzaa_compute_colab.wares import choose_gpu

MOST_BYTES = 12 << 20
"""Most that a notebook carries, packed and as text: editors and Colab slow down above it."""
EPOCH = (1980, 1, 1, 0, 0, 0)
LINE = 120
OPEN = "https://colab.research.google.com/github"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
INTRODUCTION = """\
# {title}

Trains the run `{run}` with kwanzaa-compute. **Runtime > Run all** does everything.

1. Choose a GPU first: *Runtime > Change runtime type > {gpu}*.
2. {keeping}
3. After a disconnect, run all again: it goes on from the newest checkpoint that it can verify.

Whoever holds this notebook holds the run's code{and_data}; it holds no secret. Colab bills its
compute units while the runtime is connected: *Runtime > Disconnect and delete runtime* ends that.
"""
ON_DRIVE = (
    "Let it use your Drive when it asks: checkpoints and adapter go to *MyDrive/kwanzaa/{run}*."
)
IN_STORE = "Add {names} in the *Secrets* panel (the key at the left): the right to `{url}`."
SETTINGS = """\
# @title Settings
NEEDS_GPU = True  # False trains on the processor, slowly
DRIVE = "/content/drive"
WORK = "/content/kwanzaa"
JOB = {job}"""


def write_notebook(handover: Handover) -> Notebook:
    """The notebook. Raises `UsageError` where it would be too large, `NothingFitsError`."""
    import nbformat
    from nbformat import v4

    gpu = choose_gpu(handover.vram_gib, handover.gpu)
    link = _link(handover)
    texts = [
        SETTINGS.format(job=pprint.pformat(_job(handover, gpu), width=96, sort_dicts=True)),
        f'# @title What it needs\nPAYLOAD = """\n{_payload(handover)}\n"""',
        "# @title What it does\n" + files(__package__).joinpath("in_colab.py").read_text(),
        "URL = prepare(JOB, PAYLOAD, WORK, DRIVE, NEEDS_GPU)",
        "train(JOB, URL, WORK)",
        "finish(JOB, URL)",
    ]
    cells = [v4.new_markdown_cell(_introduction(handover, gpu, link))]
    cells += [v4.new_code_cell(text) for text in texts]
    for number, cell in enumerate(cells):
        cell["id"] = f"kwanzaa-{number}"  # the same run, the same bytes
        if cell["source"].startswith("# @title"):
            cell["metadata"] = {"cellView": "form"}  # Colab shows the title and hides the code
    document = v4.new_notebook(cells=cells, metadata=_metadata(handover, gpu))
    nbformat.validate(document)
    return Notebook(nbformat.writes(document), gpu, link)


def _metadata(handover: Handover, gpu: str) -> dict[str, Any]:
    return {
        "accelerator": "GPU",
        "colab": {"gpuType": gpu, "provenance": [], "name": f"{handover.run_id}.ipynb"},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
    }


def _job(handover: Handover, gpu: str) -> dict[str, Any]:
    return {
        "run": handover.run_id,
        "gpu": gpu,
        "argv": list(handover.argv),
        "env": dict(handover.env),
        "store_url": handover.store_url,
        "needed": list(handover.needed),
        "optional": list(handover.optional),
    }


def _payload(handover: Handover) -> str:
    """Code and files as one archive in base64, in lines; the same content, the same text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        named = {CODE: handover.code, **{FILES + n: c for n, c in handover.files.items()}}
        for name, content in sorted(named.items()):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    text = base64.b64encode(buffer.getvalue()).decode()
    if len(text) > MOST_BYTES:
        raise UsageError(
            f"the notebook would be {len(text) / 2**20:.0f} MiB large; {MOST_BYTES >> 20} MiB is"
            " the most that it may carry",
            mend="keep data and base in a store that Colab reaches: --store s3://bucket/folder",
        )
    return "\n".join(text[i : i + LINE] for i in range(0, len(text), LINE))


def _introduction(handover: Handover, gpu: str, link: str) -> str:
    names = ", ".join(f"`{name}`" for name in handover.needed)
    keeping = IN_STORE if handover.store_url else ON_DRIVE
    text = INTRODUCTION.format(
        title=handover.title,
        run=handover.run_id,
        gpu=gpu,
        keeping=keeping.format(run=handover.run_id, names=names, url=handover.store_url),
        and_data="" if handover.store_url else " and its data",
    )
    badge = f"[![Open in Colab]({BADGE})]({link})\n\n" if link else ""
    return badge + textwrap.dedent(text).strip()


def _link(handover: Handover) -> str:
    """The link that opens the notebook where it will be published; "" where it will not be."""
    if not handover.publish_at:
        return ""
    words = handover.publish_at.strip("/").split("/")
    if len(words) < 2 or not all(words):  # noqa: PLR2004 -- an owner and a repository
        raise UsageError(
            f"--github {handover.publish_at!r} names no repository",
            mend="write OWNER/REPOSITORY, or OWNER/REPOSITORY/BRANCH/PATH",
        )
    owner, repository, *rest = words
    branch = rest[0] if rest else "main"
    path = "/".join(rest[1:]) or f"{handover.run_id}.ipynb"
    path = path if path.endswith(".ipynb") else f"{path}/{handover.run_id}.ipynb"
    return f"{OPEN}/{owner}/{repository}/blob/" + quote(f"{branch}/{path}")
