"""NonMaxSuppression: of boxes that overlap much, the one with the best score.

For each image and class the boxes above the least score are sorted by a heap of their numbers, best first, of equal
ones the first; each is taken unless it overlaps a box taken before by more than the limit.
"""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline, kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")

# `selected` has room for `limit` triples of int64 for each image and class, `counts` an int64 for each, `order` one for
# each box of each thread. `center` says that a box is its centre and extents, not two corners.
ARGUMENTS = record(
    "boxes scores selected counts order images classes count limit center", most_overlap="f4", least_score="f4"
)


@inline
def _comes_before(scores, i, j):
    """Whether box i is taken before box j."""
    x, y = simd.load_f32(scores + 4 * i), simd.load_f32(scores + 4 * j)
    return x > y or (x == y and i < j)


@inline
def _sink(scores, order, root, count):
    """Moves the number at `root` down until no child of it comes later in the sorted order."""
    number = simd.load_i64(order + 8 * root)
    child = 2 * root + 1
    while child < count:
        other = simd.load_i64(order + 8 * child)
        if child + 1 < count:
            right = simd.load_i64(order + 8 * (child + 1))
            if _comes_before(scores, other, right):
                child += 1
                other = right
        if not _comes_before(scores, number, other):
            break
        simd.store_i64(order + 8 * root, other)
        root, child = child, 2 * child + 1
    simd.store_i64(order + 8 * root, number)


@inline
def _sort(scores, order, count):
    for root in range(count // 2 - 1, -1, -1):
        _sink(scores, order, root, count)
    for last in range(count - 1, 0, -1):
        first, end = simd.load_i64(order), simd.load_i64(order + 8 * last)
        simd.store_i64(order, end)
        simd.store_i64(order + 8 * last, first)
        _sink(scores, order, 0, last)


@inline
def _corners(a, box):
    """Least and most of both axes."""
    p, q, r, s = simd.load_f32(box), simd.load_f32(box + 4), simd.load_f32(box + 8), simd.load_f32(box + 12)
    if a.center != 0:
        return p - r / 2, q - s / 2, p + r / 2, q + s / 2
    return min(p, r), min(q, s), max(p, r), max(q, s)


@inline
def _overlaps(a, box, other):
    """Whether the common area of two boxes is more than `most_overlap` of the area of both."""
    low_x, low_y, high_x, high_y = _corners(a, box)
    left, top, right, bottom = _corners(a, other)
    width = min(high_x, right) - max(low_x, left)
    height = min(high_y, bottom) - max(low_y, top)
    area, second = (high_x - low_x) * (high_y - low_y), (right - left) * (bottom - top)
    if not (width > 0 and height > 0 and area > 0 and second > 0):
        return False
    common = width * height
    return common / (area + second - common) > a.most_overlap


@kernel(ARGUMENTS)
def non_max_suppression(a, thread, threads):
    """selected[image, class, :counts[image, class]] = (image, class, box), best boxes first."""
    items = a.images * a.classes
    order = a.order + thread * a.count * 8
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        image = item // a.classes
        scores, boxes = a.scores + item * a.count * 4, a.boxes + image * a.count * 16
        selected, found, taken = a.selected + item * a.limit * 24, 0, 0
        for number in range(a.count):
            if simd.load_f32(scores + 4 * number) > a.least_score:
                simd.store_i64(order + 8 * found, number)
                found += 1
        _sort(scores, order, found)
        for place in range(found):
            if taken == a.limit:
                break
            number = simd.load_i64(order + 8 * place)
            box, rejected = boxes + 16 * number, False
            for earlier in range(taken):
                other = boxes + 16 * simd.load_i64(order + 8 * earlier)
                if _overlaps(a, box, other):
                    rejected = True
                    break
            if not rejected:
                simd.store_i64(order + 8 * taken, number)
                simd.store_i64(selected + 24 * taken, image)
                simd.store_i64(selected + 24 * taken + 8, item % a.classes)
                simd.store_i64(selected + 24 * taken + 16, number)
                taken += 1
        simd.store_i64(a.counts + 8 * item, taken)
