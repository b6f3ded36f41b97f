"""A terminal for a program, and pictures of what it shows there."""

import asyncio
import fcntl
import html
import io
import os
import re
import struct
import sys
import termios

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from support import PATIENCE, wait_until

FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <desc>
@DESCRIPTION@
    </desc>
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font: bold 18px sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})"
      clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""
"""Rich's own, without its font, which is on another host, and with the text to be read."""

MASKS = (
    (r"[0-9a-z]{10}[0-9A-Za-z]{22}\b", "ID"),
    (r"aiorsmq-bench-[0-9a-f]{8}", "aiorsmq-bench-ID"),
    (r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?", "DATE"),
    (r"\b\d\d:\d\d(:\d\d)?", "TIME"),
    (r"~?\b\d+(\.\d+)? (d|h|min|s|ms|µs)( \d+ (h|min|s))?(?!\w)", "AGE"),
    (r"\b\d+\.\d+(\.\d+)*", "DECIMAL"),
    (r"[▁▂▃▄▅▆▇█]+", "GRAPH"),
    (r"[─━═]+", "-"),
    (r"\s+", " "),
)
"""What is not the same each time: patterns, and what stands for it."""


async def shown(command, *, url, address, columns, lines=24, keys=b"", wait_for=b""):
    """What a program writes on a terminal of its own, until it has ended. With `wait_for` it gets
    the keys when it has written that. `address` is what the server's is replaced by, after it.
    """
    main, side = os.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    hidden = ("RSMQ_", "AIORSMQ_", "REDIS_", "COLUMNS", "LINES")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiorsmq", *command),
        stdin=side,
        stdout=side,
        stderr=side,
        env=plain | {"AIORSMQ_URL": url, "TERM": "xterm-256color", "TZ": "UTC"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(side)
    output = bytearray()
    ended = asyncio.Event()

    def read():
        try:
            output.extend(os.read(main, 65536))
        except OSError:  # the program has ended
            ended.set()
            loop.remove_reader(main)

    loop = asyncio.get_running_loop()
    loop.add_reader(main, read)
    try:
        if keys:
            await wait_until(lambda: wait_for in output)
            os.write(main, keys)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
            await process.wait()
    finally:
        loop.remove_reader(main)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(main)
    return last_screen(output.decode().replace(*address), columns)


COLORS = {"default": None, "brown": "yellow"}
"""What rich calls pyte's colors, where they differ."""


def color_of(name):
    """As rich calls it; those of 256 colors are hexadecimal."""
    return f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else COLORS.get(name, name)


def last_screen(output, columns):
    """What one sees at the end: of a program that draws the screen again and again, the last one;
    of a bar that is drawn and taken away, nothing.
    """
    screen = pyte.Screen(columns, 200)
    pyte.Stream(screen).feed(output.partition("\x1b[?1049l")[0])
    lines = []
    for row in range(screen.lines):
        line = Text(end="")
        for column in range(columns):
            char = screen.buffer[row][column]
            color, background = map(color_of, (char.fg, char.bg))
            style = Style(color=color, bgcolor=background, bold=char.bold, reverse=char.reverse)
            line.append(char.data, style)
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1]:
        lines.pop()
    return Text("\n").join(lines)


def picture(name, prompts, *, columns):
    """An SVG of commands and what they showed."""
    with io.StringIO() as nowhere:
        console = Console(record=True, width=columns, file=nowhere, force_terminal=True)
        for number, (command, output) in enumerate(prompts):
            if number:
                console.print()
            console.print(Text.assemble(("$ ", "green"), (command, "bold")))
            console.print(output, no_wrap=True, crop=True)
    text = console.export_text(clear=False)
    plain = "\n".join(line.rstrip() for line in text.splitlines())
    svg = console.export_svg(title="", code_format=FORMAT, unique_id=name)
    svg = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
    return svg.replace("@DESCRIPTION@", html.escape(plain, quote=False))


def text_of(svg):
    """What is to be read in a picture, without what differs each time."""
    text = html.unescape(re.search(r"<desc>\n(.*?)\n    </desc>", svg, re.DOTALL)[1])
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return text
