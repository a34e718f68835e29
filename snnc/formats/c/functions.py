"""The C functions that operations are calls of; a file holds those that it calls.

Sums are made in the order of the weights, from the bias on: in single precision too they are the same to the last bit,
whether silent inputs are passed over or not. Capital letters are types of numbers, one for every letter of a call: what
is read is X, what is written Y, constants are W, and what there is of the time is T.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Source:
    """A function or a type in C, and what it needs before it."""

    text: str
    needs: tuple[str, ...] = ()

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """By parameter the letter of its type, "" for those of a type of their own."""
        head = re.search(r"^static \w+ \w+\((.*?)\) {", self.text, re.MULTILINE | re.DOTALL)
        parameters = head[1].split(",") if head else []
        return tuple(next(iter(re.findall(r"\b[TWXY]\b", parameter)), "") for parameter in parameters)

    def written(self, name: str, called: str, types: Mapping[str, str]) -> str:
        """Return the text for some types, of a function that is called so."""
        words = {name: called, **types, "LOWEST": _LOWEST.get(types.get("Y", ""), "")}
        return re.sub(r"\w+", lambda found: words.get(found[0], found[0]), self.text)


_LOWEST = {"float": "-INFINITY", **{f"int{bits}_t": f"INT{bits}_MIN" for bits in (8, 16, 32, 64)}, "uint8_t": "0"}


# What walks over numbers that share a constant with those beside them: ``count`` constants, each for ``inner`` numbers.
NEXT = "if (++k == inner) { k = 0; if (++c == count) c = 0; }"

# Where kernels reach, on one axis: positions from ``low`` to ``high`` see the tap at ``offset`` inside.
_REACH = """
static void reach(int32_t size, int32_t made, int32_t stride, int32_t offset, int32_t *low, int32_t *high) {
    const int32_t last = size - 1 - offset;
    *low = offset < 0 ? (-offset + stride - 1) / stride : 0;
    *high = last < 0 ? 0 : last / stride + 1;
    if (*high > made) *high = made;
}
"""

SOURCES = {
    "window": Source("""
/* A kernel over maps, all of three axes: samples, and of each group the channels in and out. */
typedef struct {
    int32_t samples, groups, in, out;
    int32_t size[3], made[3], kernel[3], stride[3], before[3], dilation[3];
} window;
"""),
    "route": Source("""
/* Where numbers come from and go to, axis by axis. */
typedef struct {
    int32_t rank, length[8], from[8], to[8];
} route;
"""),
    "reach": Source(_REACH),
    "volume": Source("""
static int32_t volume(const int32_t *sides) { return sides[0] * sides[1] * sides[2]; }
"""),
    "rounded_down": Source("""
static float rounded_down(float x) {
    if (x > -8388608.0f && x < 8388608.0f) {
        const float whole = (float)(int32_t)x;
        return whole > x ? whole - 1.0f : whole;
    }
    return x;
}
"""),
    "fill": Source("""
static void fill(Y *y, Y value, int32_t n) {
    for (int32_t i = 0; i < n; ++i) y[i] = value;
}
"""),
    "fill_each": Source(f"""
static void fill_each(Y *y, const W *value, int32_t n, int32_t inner, int32_t count) {{
    for (int32_t i = 0, c = 0, k = 0; i < n; ++i) {{
        y[i] = (Y)value[c];
        {NEXT}
    }}
}}
"""),
    "copy": Source("""
static void copy(const X *x, Y *y, int32_t n) {
    for (int32_t i = 0; i < n; ++i) y[i] = (Y)x[i];
}
"""),
    "move": Source(
        """
/* Moves numbers, adds them to those that are there, or multiplies those by them. */
static void move(const route *r, const X *x, Y *y, int32_t adds, int32_t multiplies) {
    int32_t at[8] = {0};
    const int32_t last = r->rank - 1;
    for (;;) {
        for (int32_t i = 0; i < r->length[last]; ++i) {
            Y *place = y + i * r->to[last];
            const Y value = (Y)x[i * r->from[last]];
            *place = (Y)(adds ? *place + value : multiplies ? *place * value : value);
        }
        int32_t axis = last - 1;
        while (axis >= 0) {
            x += r->from[axis];
            y += r->to[axis];
            if (++at[axis] < r->length[axis]) break;
            x -= r->from[axis] * r->length[axis];
            y -= r->to[axis] * r->length[axis];
            at[axis--] = 0;
        }
        if (axis < 0) return;
    }
}
""",
        ("route",),
    ),
    "take": Source("""
static void take(const X *x, Y *y, const int32_t *places, int32_t outer, int32_t size, int32_t made, int32_t inner) {
    for (int32_t o = 0; o < outer; ++o)
        for (int32_t p = 0; p < made; ++p)
            for (int32_t i = 0; i < inner; ++i) *y++ = (Y)x[(o * size + places[p]) * inner + i];
}
"""),
    "add": Source("""
static void add(const X *a, const W *b, Y *y, int32_t n) {
    for (int32_t i = 0; i < n; ++i) y[i] = (Y)((Y)a[i] + (Y)b[i]);
}
"""),
    "round_to": Source(
        """
/* Rounds to whole numbers of a unit, of which there are so many at most. */
static void round_to(float *y, float unit, float most, int32_t n) {
    for (int32_t i = 0; i < n; ++i) {
        const float whole = rounded_down(y[i] / unit + 0.5f);
        y[i] = (whole < -most ? -most : whole > most ? most : whole) * unit;
    }
}
""",
        ("rounded_down",),
    ),
    "multiply": Source("""
static void multiply(const X *x, Y *y, T factor, int32_t n) {
    for (int32_t i = 0; i < n; ++i) y[i] = (Y)(x[i] * factor);
}
"""),
    "divide": Source("""
static void divide(const float *x, float *y, float divisor, int32_t n) {
    for (int32_t i = 0; i < n; ++i) y[i] = x[i] / divisor;
}
"""),
    "divide_each": Source(f"""
static void divide_each(const float *x, float *y, const float *divisor, int32_t n, int32_t inner, int32_t count) {{
    for (int32_t i = 0, c = 0, k = 0; i < n; ++i) {{
        y[i] = x[i] / divisor[c];
        {NEXT}
    }}
}}
"""),
    "multiply_each": Source(f"""
static void multiply_each(const X *x, Y *y, const W *factor, int32_t n, int32_t inner, int32_t count) {{
    for (int32_t i = 0, c = 0, k = 0; i < n; ++i) {{
        y[i] = (Y)((Y)x[i] * (Y)factor[c]);
        {NEXT}
    }}
}}
"""),
    "add_each": Source(f"""
static void add_each(const X *x, Y *y, const W *term, int32_t n, int32_t inner, int32_t count) {{
    for (int32_t i = 0, c = 0, k = 0; i < n; ++i) {{
        y[i] = (Y)((Y)x[i] + (Y)term[c]);
        {NEXT}
    }}
}}
"""),
    "rectify": Source(f"""
static void rectify(const float *x, float *y, const float *ceiling, const float *slope, int32_t n, int32_t inner,
                    int32_t count) {{
    for (int32_t i = 0, c = 0, k = 0; i < n; ++i) {{
        float value = x[i];
        if (ceiling && value > ceiling[c]) value = ceiling[c];
        if (ceiling && value < -ceiling[c]) value = -ceiling[c];
        if (!(value > 0.0f)) value = slope ? value * slope[c] : 0.0f;
        y[i] = value;
        {NEXT}
    }}
}}
"""),
    "take_away": Source(f"""
/* Takes away so much of what a layer answers to nothing as this step has less of the image than equal steps have. */
static void take_away(Y *y, const W *constant, T missing, int32_t n, int32_t inner, int32_t count) {{
    if (missing == 0) return;
    for (int32_t i = 0, c = 0, k = 0; i < n; ++i) {{
        y[i] = (Y)(y[i] - (Y)constant[c] * missing);
        {NEXT}
    }}
}}
"""),
    "mean_so_far": Source("""
static void mean_so_far(const X *x, Y *y, Y *total, T elapsed, int32_t n) {
    for (int32_t i = 0; i < n; ++i) {
        total[i] = (Y)(total[i] + (Y)x[i]);
        y[i] = (Y)(total[i] / elapsed);
    }
}
"""),
    "gained": Source("""
/* What a mean so far, times the steps that it is of, has gained since the step before. */
static void gained(Y *y, Y *before, T elapsed, int32_t n) {
    for (int32_t i = 0; i < n; ++i) {
        const Y now = (Y)(y[i] * elapsed);
        y[i] = (Y)(now - before[i]);
        before[i] = now;
    }
}
"""),
    "sparse": Source("""
/* Whether so few of them send something that going event by event pays: fewer than one of as many as it costs. */
static int32_t sparse(const X *x, int32_t n, int32_t cost) {
    int32_t events = 0;
    for (int32_t i = 0; i < n; ++i) events += x[i] != 0;
    return events < n / cost;
}
"""),
    "convolve": Source(
        """
static void convolve(const window *g, const X *x, const W *weight, const Y *bias, Y *y) {
    const int32_t size = volume(g->size), made = volume(g->made);
    const int32_t rows = g->size[1], columns = g->size[2], made_rows = g->made[1], made_columns = g->made[2];
    for (int32_t set = 0; set < g->samples * g->groups; ++set) {
        const int32_t group = set % g->groups;
        const W *tap = weight + group * g->out * g->in * volume(g->kernel);
        for (int32_t o = 0; o < g->out; ++o) {
            Y *map = y + (set * g->out + o) * made;
            for (int32_t i = 0; i < made; ++i) map[i] = bias ? bias[group * g->out + o] : 0;
            for (int32_t c = 0; c < g->in; ++c) {
                const X *seen = x + (set * g->in + c) * size;
                for (int32_t kz = 0; kz < g->kernel[0]; ++kz)
                    for (int32_t ky = 0; ky < g->kernel[1]; ++ky)
                        for (int32_t kx = 0; kx < g->kernel[2]; ++kx) {
                            const Y w = (Y)*tap++;
                            const int32_t oz = kz * g->dilation[0] - g->before[0];
                            const int32_t oy = ky * g->dilation[1] - g->before[1];
                            const int32_t ox = kx * g->dilation[2] - g->before[2], step = g->stride[2];
                            int32_t z0, z1, y0, y1, x0, x1;
                            reach(g->size[0], g->made[0], g->stride[0], oz, &z0, &z1);
                            reach(rows, made_rows, g->stride[1], oy, &y0, &y1);
                            reach(columns, made_columns, step, ox, &x0, &x1);
                            for (int32_t pz = z0; pz < z1; ++pz)
                                for (int32_t py = y0; py < y1; ++py) {
                                    const int32_t iz = pz * g->stride[0] + oz, iy = py * g->stride[1] + oy;
                                    const X *from = seen + (iz * rows + iy) * columns + ox;
                                    Y *to = map + (pz * made_rows + py) * made_columns;
                                    for (int32_t px = x0; px < x1; ++px) to[px] = (Y)(to[px] + w * from[px * step]);
                                }
                        }
            }
        }
    }
}
""",
        ("window", "volume", "reach"),
    ),
    "convolve_events": Source(
        """
/* Event by event: those of a piece of a row are listed with where they arrive, and then go to every map. */
static void convolve_events(const window *g, const X *x, const W *weight, const Y *bias, Y *y) {
    const int32_t made = volume(g->made), taps = volume(g->kernel), columns = g->size[2];
    int32_t listed[32], from[32], to[32];
    for (int32_t set = 0; set < g->samples * g->groups; ++set) {
        const int32_t group = set % g->groups;
        const W *kernels = weight + group * g->out * g->in * taps;
        Y *maps = y + set * g->out * made;
        for (int32_t o = 0; o < g->out; ++o)
            for (int32_t i = 0; i < made; ++i) maps[o * made + i] = bias ? bias[group * g->out + o] : 0;
        for (int32_t row = 0; row < g->in * g->size[0] * g->size[1]; ++row, x += columns) {
            const int32_t c = row / (g->size[0] * g->size[1]);
            const int32_t iz = row / g->size[1] % g->size[0], iy = row % g->size[1];
            for (int32_t begin = 0; begin < columns; begin += 32) {
                int32_t events = 0;
                for (int32_t ix = begin; ix < columns && ix < begin + 32; ++ix)
                    if (x[ix] != 0) listed[events++] = ix;
                for (int32_t tap = 0; events && tap < taps; ++tap) {
                    const int32_t kz = tap / (g->kernel[1] * g->kernel[2]), kx = tap % g->kernel[2];
                    const int32_t ky = tap / g->kernel[2] % g->kernel[1];
                    const int32_t pz = iz + g->before[0] - kz * g->dilation[0], z = pz / g->stride[0];
                    const int32_t py = iy + g->before[1] - ky * g->dilation[1], r = py / g->stride[1];
                    const W *w = kernels + c * taps + tap;
                    int32_t arriving = 0;
                    if (pz < 0 || pz % g->stride[0] || z >= g->made[0]) continue;
                    if (py < 0 || py % g->stride[1] || r >= g->made[1]) continue;
                    for (int32_t e = 0; e < events; ++e) {
                        const int32_t px = listed[e] + g->before[2] - kx * g->dilation[2], k = px / g->stride[2];
                        if (px < 0 || px % g->stride[2] || k >= g->made[2]) continue;
                        from[arriving] = listed[e];
                        to[arriving++] = k;
                    }
                    for (int32_t o = 0; o < g->out; ++o, w += g->in * taps) {
                        Y *map = maps + o * made + (z * g->made[1] + r) * g->made[2];
                        for (int32_t e = 0; e < arriving; ++e) map[to[e]] = (Y)(map[to[e]] + (Y)*w * x[from[e]]);
                    }
                }
            }
        }
    }
}
""",
        ("window", "volume"),
    ),
    "convolve_back": Source(
        """
static void convolve_back(const window *g, const float *x, const float *weight, const float *bias, float *y) {
    const int32_t made = volume(g->made), taps = volume(g->kernel);
    for (int32_t set = 0; set < g->samples * g->groups; ++set) {
        const int32_t group = set % g->groups;
        for (int32_t o = 0; o < g->out; ++o) {
            float *map = y + (set * g->out + o) * made;
            const float *seen = x + set * g->in * volume(g->size);
            for (int32_t i = 0; i < made; ++i) map[i] = bias ? bias[group * g->out + o] : 0.0f;
            for (int32_t c = 0; c < g->in; ++c)
                for (int32_t iz = 0; iz < g->size[0]; ++iz)
                    for (int32_t iy = 0; iy < g->size[1]; ++iy)
                        for (int32_t ix = 0; ix < g->size[2]; ++ix) {
                            const float value = *seen++;
                            const float *tap = weight + ((group * g->in + c) * g->out + o) * taps;
                            for (int32_t kz = 0; kz < g->kernel[0]; ++kz)
                                for (int32_t ky = 0; ky < g->kernel[1]; ++ky)
                                    for (int32_t kx = 0; kx < g->kernel[2]; ++kx, ++tap) {
                                        const int32_t pz = iz * g->stride[0] + kz * g->dilation[0] - g->before[0];
                                        const int32_t py = iy * g->stride[1] + ky * g->dilation[1] - g->before[1];
                                        const int32_t px = ix * g->stride[2] + kx * g->dilation[2] - g->before[2];
                                        if (pz < 0 || py < 0 || px < 0) continue;
                                        if (pz >= g->made[0] || py >= g->made[1] || px >= g->made[2]) continue;
                                        map[(pz * g->made[1] + py) * g->made[2] + px] += *tap * value;
                                    }
                        }
        }
    }
}
""",
        ("window", "volume"),
    ),
    "connect": Source("""
static void connect(const X *x, const W *weight, const Y *bias, Y *y, int32_t rows, int32_t in,
                    int32_t out) {
    for (int32_t r = 0; r < rows; ++r, x += in)
        for (int32_t o = 0; o < out; ++o) {
            const W *w = weight + o * in;
            Y sum = bias ? bias[o] : 0;
            for (int32_t i = 0; i < in; ++i) sum = (Y)(sum + (Y)w[i] * x[i]);
            *y++ = sum;
        }
}
"""),
    "connect_events": Source("""
/* Weights stand input by input. */
static void connect_events(const X *x, const W *weight, const Y *bias, Y *y, int32_t rows, int32_t in,
                           int32_t out) {
    for (int32_t r = 0; r < rows; ++r, x += in, y += out) {
        for (int32_t o = 0; o < out; ++o) y[o] = bias ? bias[o] : 0;
        for (int32_t i = 0; i < in; ++i) {
            const X event = x[i];
            if (event == 0) continue;
            for (int32_t o = 0; o < out; ++o) y[o] = (Y)(y[o] + (Y)weight[i * out + o] * event);
        }
    }
}
"""),
    "softmax": Source("""
static void softmax(const float *x, float *y, int32_t outer, int32_t size, int32_t inner) {
    for (int32_t set = 0; set < outer * inner; ++set) {
        const int32_t first = set / inner * size * inner + set % inner, end = first + size * inner;
        float most = x[first], sum = 0.0f;
        for (int32_t i = first; i < end; i += inner)
            if (x[i] > most) most = x[i];
        for (int32_t i = first; i < end; i += inner) sum += y[i] = expf(x[i] - most);
        for (int32_t i = first; i < end; i += inner) y[i] /= sum;
    }
}
"""),
    "normalize": Source("""
/* Divides by the root of the mean square, which is no less than a least one. */
static void normalize(const float *x, float *y, int32_t outer, int32_t size, int32_t inner, float epsilon,
                      float least) {
    for (int32_t set = 0; set < outer * inner; ++set) {
        const int32_t first = set / inner * size * inner + set % inner, end = first + size * inner;
        float square = 0.0f;
        for (int32_t i = first; i < end; i += inner) square += x[i] * x[i];
        square = square / (float)size + epsilon;
        square = sqrtf(square < least ? least : square);
        for (int32_t i = first; i < end; i += inner) y[i] = x[i] / square;
    }
}
"""),
    "multiply_matrices": Source("""
/* As many products as there are sets; from set to set a factor is so much farther. */
static void multiply_matrices(const float *a, const float *b, float *y, int32_t sets, int32_t next_a, int32_t next_b,
                              int32_t rows, int32_t in, int32_t out) {
    for (int32_t set = 0; set < sets; ++set, a += next_a, b += next_b)
        for (int32_t r = 0; r < rows; ++r, y += out) {
            for (int32_t o = 0; o < out; ++o) y[o] = 0.0f;
            for (int32_t i = 0; i < in; ++i)
                for (int32_t o = 0; o < out; ++o) y[o] += a[r * in + i] * b[i * out + o];
        }
}
"""),
    "sigmoid": Source("""
/* Of x times a steepness, and that times x where it is to be. */
static void sigmoid(const float *x, float *y, float steepness, int32_t times_x, int32_t n) {
    for (int32_t i = 0; i < n; ++i) {
        const float value = 1.0f / (1.0f + expf(-steepness * x[i]));
        y[i] = times_x ? x[i] * value : value;
    }
}
"""),
    "gaussian": Source("""
/* x times how much of the normal distribution lies below x, or what is near it and made of tanh. */
static void gaussian(const float *x, float *y, int32_t near, int32_t n) {
    for (int32_t i = 0; i < n; ++i) {
        const float cubed = 0.044715f * x[i] * x[i] * x[i];
        const float both = near ? tanhf(0.79788456f * (x[i] + cubed)) : erff(0.70710678f * x[i]);
        y[i] = 0.5f * x[i] * (1.0f + both);
    }
}
"""),
    "hyperbolic": Source("""
static void hyperbolic(const float *x, float *y, int32_t n) {
    for (int32_t i = 0; i < n; ++i) y[i] = tanhf(x[i]);
}
"""),
    "pool": Source(
        """
/* The sums of windows, or their maxima. */
static void pool(const window *g, const X *x, Y *y, int32_t maximum) {
    for (int32_t set = 0; set < g->samples; ++set, x += volume(g->size))
        for (int32_t pz = 0; pz < g->made[0]; ++pz)
            for (int32_t py = 0; py < g->made[1]; ++py)
                for (int32_t px = 0; px < g->made[2]; ++px) {
                    Y found = maximum ? LOWEST : 0;
                    for (int32_t kz = 0; kz < g->kernel[0]; ++kz)
                        for (int32_t ky = 0; ky < g->kernel[1]; ++ky)
                            for (int32_t kx = 0; kx < g->kernel[2]; ++kx) {
                                const int32_t iz = pz * g->stride[0] + kz * g->dilation[0] - g->before[0];
                                const int32_t iy = py * g->stride[1] + ky * g->dilation[1] - g->before[1];
                                const int32_t ix = px * g->stride[2] + kx * g->dilation[2] - g->before[2];
                                if (iz < 0 || iy < 0 || ix < 0) continue;
                                if (iz >= g->size[0] || iy >= g->size[1] || ix >= g->size[2]) continue;
                                const Y value = (Y)x[(iz * g->size[1] + iy) * g->size[2] + ix];
                                if (!maximum) found = (Y)(found + value);
                                else if (value > found) found = value;
                            }
                    *y++ = found;
                }
}
""",
        ("window", "volume"),
    ),
}


# What calls functions of math.h, which are to be linked.
_MATH = re.compile(r"\b(?:exp|sqrt|erf|tanh)f\(")
MATHEMATICAL = frozenset(name for name, source in SOURCES.items() if _MATH.search(source.text))


def needed(names: Iterable[str]) -> Iterator[str]:
    """Yield functions and types by name, each behind what it needs."""
    wanted = set(names)
    wanted |= {need for name in wanted for need in SOURCES[name].needs}
    return (name for name in SOURCES if name in wanted)
