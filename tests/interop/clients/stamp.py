"""A stamp in the picture: publisher number, millisecond clock and checksum in a strip of 32 black
or white cells along the top, so that a subscriber can tell whose picture it really got and how old
it is. The clock is this machine's monotonic one: publishers and subscribers must run on one machine.
"""

import time

import numpy as np

CELLS = 32
BLACK, WHITE = 16, 235


def now_ms():
    return int(time.monotonic() * 1000)


def age_ms(stamped):
    """Milliseconds since a stamped time, which has 20 bits."""
    return (now_ms() - stamped) & 0xFFFFF


def _checksum(v):
    return ((v ^ v >> 6 ^ v >> 12 ^ v >> 18 ^ v >> 24) & 63) ^ 0x2A


def write(luma, publisher):
    """Stamps a picture (height × width of luma) in place."""
    height, width = luma.shape
    value = (publisher & 63) << 20 | (now_ms() & 0xFFFFF)
    value = value << 6 | _checksum(value)
    strip = max(2, height // 12)
    for i in range(CELLS):
        bit = (value >> (CELLS - 1 - i)) & 1
        luma[:strip, i * width // CELLS : (i + 1) * width // CELLS] = WHITE if bit else BLACK


def read(luma):
    """(publisher, milliseconds) of a picture of any size, or None when the strip cannot be read."""
    height, width = luma.shape
    middle = height // 24
    row = luma[max(0, middle - 1) : middle + 1].mean(axis=0)
    bits = 0
    for i in range(CELLS):
        centre = (2 * i + 1) * width // (2 * CELLS)
        bits = bits << 1 | int(row[max(0, centre - 1) : centre + 2].mean() > 126)
    value, sum_read = bits >> 6, bits & 63
    return (value >> 20, value & 0xFFFFF) if sum_read == _checksum(value) else None
