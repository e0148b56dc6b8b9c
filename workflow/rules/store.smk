# Results in a store (default-storage-provider): machines without a common folder (docs/cluster.md).
import errno

from snakemake.io import sourcecache_entry

from attriflow.results import Results

# they read files of this machine: downloads, data mirrors, checkpoints
if workflow.storage_settings.default_storage_provider:

    localrules:
        dataset,
        adopt,


def in_store(path):
    """The object of a file of this project in the store."""
    prefix = (workflow.storage_settings.default_storage_prefix or "").rstrip("/")
    return workflow.storage_registry.default_storage_provider.object(f"{prefix}/{path}")


class Inventory:
    """What a store said it holds when it was asked once; keys are places of local copies."""

    def __init__(self):
        self.exists_in_storage, self.mtime, self.size = {}, {}, {}


class Stored(Results):
    """Results in the store, with copies of the small ones that are read here."""

    copies = Path(".snakemake/attriflow")

    def __init__(self):
        self._inventory = Inventory()
        workflow.async_run(in_store("results/all").inventory(self._inventory))

    def forget(self):
        """From here on jobs change what is there: ask every time."""
        self._inventory = Inventory()

    def _find(self, path):
        """The object of a file. A list may leave some out, and what is taken for gone would be taken for fresh."""
        found = in_store(path)
        if self._inventory.exists_in_storage.get(found.cache_key()):
            return found
        try:
            if found.exists():
                return found
        except Exception as error:  # each store has its own
            raise WorkflowError(
                f"default-storage-provider: {found.query} cannot be looked for ({error}); "
                "see that the store is reached, and that its keys are the right ones"
            )
        raise self.missing(path)

    def size(self, path):
        found = self._find(path)
        return self._inventory.size.get(found.cache_key()) or found.size()

    def time(self, path):
        found = self._find(path)
        time = self._inventory.mtime.get(found.cache_key())
        return time.storage() if time else found.mtime()

    def fetch(self, path):
        time, copy = self.time(path), self.copies / path
        found = copy.stat() if copy.exists() else None
        if not found or (found.st_mtime, found.st_size) != (time, self.size(path)):
            with io.replacing(copy) as partial:
                found = in_store(path)
                found.set_local_path(partial)
                found.retrieve_object()
                os.utime(partial, (time, time))
        return copy

    def missing(self, path):
        return FileNotFoundError(
            errno.ENOENT, "not made yet", str(in_store(path).local_path())
        )


def kept_here(path):
    """A file that every machine writes by itself. `local` would keep jobs that read it on this machine."""
    return sourcecache_entry(str(path), str(path)) if stored else str(path)


def link_to_copies():
    """Jobs find what is fetched for them, and leave what they make, under the names that their specs give."""
    for name in ("results", "logs"):
        copies, link = in_store(f"{name}/all").local_path().parent, Path(name)
        copies.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(copies)
        except FileExistsError:
            if link.resolve() != copies.resolve():
                raise WorkflowError(
                    f"default-storage-provider: {name} is here already, and is not of this store; "
                    "what lies in a store and what lies here are kept apart: run in a fresh clone"
                )


def refuse_copies():
    """Links to a store's copies, in a run that does not know the store."""
    copies = workflow.storage_settings.local_storage_prefix.resolve()
    if copies in Path("results").resolve().parents:
        raise WorkflowError(
            "results: these are copies of what lies in a store; name it (default-storage-provider and -prefix), "
            "or delete the links results and logs to run without it"
        )
