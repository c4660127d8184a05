"""Make torchvision's PyPI wheel import beside a CPU build of torch.

The PyPI wheel of torchvision is built for CUDA: beside CPU torch its compiled operators do not load, and
`import torchvision` stops at the missing `torchvision::nms`. Declaring that operator's signature first is enough for
what open_clip and transformers use of it (image transforms, in Python). Where torchvision imports, nothing is done;
elsewhere two small files are written to the site-packages of the Python that runs this file.

    python deploy/fix_torchvision.py      # exits 1 if torchvision still does not import
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

HOOK = '''\
"""Declare torchvision's two compiled operators before torchvision is imported (installed by fix_torchvision.py)."""

import sys


class _DeclareOperators:
    """A path finder that finds nothing; it acts when torchvision is first looked up."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            # The library object must outlive this call, or the declarations go with it.
            self.library = torch.library.Library("torchvision", "FRAGMENT")
            self.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.torchvision_operators = self
        return None


sys.meta_path.insert(0, _DeclareOperators())
'''


def torchvision_imports() -> bool:
    """Return whether a fresh Python of this environment can import torchvision."""
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False)
    return done.returncode == 0


def main() -> int:
    """Fix this environment if it needs it; return the exit status."""
    if torchvision_imports():
        return 0
    site = Path(sysconfig.get_path("purelib"))
    (site / "declare_torchvision_operators.py").write_text(HOOK)
    (site / "declare_torchvision_operators.pth").write_text("import declare_torchvision_operators\n")
    if torchvision_imports():
        print(
            "torchvision was built for CUDA beside a CPU torch; declared its operators in this environment.",
            file=sys.stderr,
        )
        return 0
    print(
        "torchvision does not import here, and declaring its operators did not help: "
        "`python -c 'import torchvision'` says why.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
