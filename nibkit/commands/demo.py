"""``nibkit demo``: a page in the browser, served by this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from nibkit.commands import Parser, reported, whole
from nibkit.errors import UserError

LOCAL = ("127.0.0.1", "localhost", "::1")

EPILOG = """\
examples:
  nibkit demo
  nibkit demo --port 8000 --no-browser
  nibkit demo --weights RUN_DIR/checkpoints/best.ckpt mine.safetensors

The page halftones an image by a network with its noise switched off and on, shows constant grays and their spectrum,
and hides colours in gray and brings them back. It works without a connection to the internet and sends nothing
anywhere; images are kept in a temporary folder that goes when the command ends (Ctrl-C).
"""


def demo(arguments: Sequence[str] | None = None, prog: str = "nibkit demo") -> None:
    """Run the demo command."""
    with reported(prog):
        options = _parser(prog).parse_args(arguments)
        if find_spec("gradio") is None:
            raise UserError('the page needs Gradio; install it: pip install "nibkit[demo]" (in a clone: -e ".[demo]")')
        from nibkit.demo.serve import check_address, serve  # imports torch: bad options are answered before

        check_address(options.host, options.port)
        if options.host not in LOCAL:
            print(f"{prog}: warning: with --host {options.host} everyone who can reach this machine can use the page; "
                  "it asks for no password", file=sys.stderr)  # fmt: skip
        serve(options.host, options.port, options.weights, browser=not options.no_browser)


def _parser(prog: str) -> Parser:
    parser = Parser(prog, "Open a page to try nibkit on your images, on this machine.", EPILOG)
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen at (default: %(default)s, this machine only)")
    add("--port", type=whole(1, 65535), default=7860, metavar="N", help="to listen at (default: %(default)s)")
    add("--no-browser", action="store_true", help="do not open a browser")
    add("--weights", nargs="+", default=[], metavar="FILE", help="further weights to choose from: .safetensors of "
        "nibkit export or .ckpt of a run, of halftoning, dithering or invertible grayscale")  # fmt: skip
    return parser
