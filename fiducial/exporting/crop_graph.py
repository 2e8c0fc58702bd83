"""The crop of `data/crops.py` as an ONNX graph, and the way back: full image and boxes in, crops out; points on the crops
in, points on the image out.

Written in ONNX's own text, since slices of a size that depends on the box are what tracing can't follow. An upright crop
is separable: the rows are picked and blended, the columns are one matrix product, which runs faster than gathering
pixels of three channels. Boxes go one by one through a Loop, so that each costs what its own part of the image costs;
the network behind it sees them as one batch. Places are computed in float64, since an image may be 20,000 px wide; all that
follows is exact in float32, so that the crops are OpenCV's to the byte."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, parser

from fiducial import geometry
from fiducial.data import crops
from fiducial.geometry import Size

OPSET = 20
IR_VERSION = 10
# `corner` and `step` say where a crop lies: its outer left and top edge in px of the image measured from the image's
# outer edge, and the px of the image to one of the crop. TWO, FOUR, EIGHT: the steps from which on an image is averaged
# over blocks of so many px. What `#` begins is taken out before ONNX reads it.
CROP = """
<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
crop (uint8[height, width, 3] image, float[boxes_given, 4] boxes, uint8[crops_given, {HEIGHT}, {WIDTH}, 3] crops)
  => (uint8[n, {HEIGHT}, {WIDTH}, 3] cut, double[n, 2] corner, double[n, 2] step)
<
  int64 i0 = {{0}}, int64 i1 = {{1}}, int64 i2 = {{2}}, int64[1] l0 = {{0}}, int64[1] l1 = {{1}}, int64[1] l2 = {{2}}, int64[1] l3 = {{3}}, int64[1] l4 = {{4}},
  int64[2] yx = {{1, 0}}, int64[2] rows_columns = {{0, 1}}, int64[2] one_around = {{1, 1}}, int64[2] in_block = {{1, 3}}, bool yes = {{1}},
  double d0 = {{0}}, double d1 = {{1}}, double half = {{0.5}}, double fractions = {{{FRACTIONS}}}, double half_up = {{{HALF_UP}}}, float f_half = {{0.5}}, float f1 = {{1}}, uint8 black = {{0}},
  double padding = {{{PADDING}}}, double aspect = {{{ASPECT}}}, double[2] size = {{{WIDTH}, {HEIGHT}}}, double[1, 2] origin = {{0, 0}},
  double[3] limits = {{{TWO}, {FOUR}, {EIGHT}}}, int64[3] growth = {{1, 2, 4}}, int64[1] first_axis = {{0}},
  int64[2] sides = {{{WIDTH}, {HEIGHT}}}, double[{BOTH}] middle_each = {{{MIDDLES}}}, int64[{BOTH}] axis_each = {{{AXES}}}
>
{{
  crops_count = Shape<start=0, end=1>(crops)
  crops_count_0 = Squeeze(crops_count)
  are_given = Greater(crops_count_0, i0)
  cut, corner, step = If <
    then_branch = given () => (uint8[n, {HEIGHT}, {WIDTH}, 3] own_cut, double[n, 2] own_corner, double[n, 2] own_step) {{
      own_cut = Identity(crops)
      place_shape = Concat<axis=0>(crops_count, l2)
      own_corner = Expand(d0, place_shape)
      own_step = Expand(d1, place_shape)
    }},
    else_branch = from_image () => (uint8[n, {HEIGHT}, {WIDTH}, 3] new_cut, double[n, 2] new_corner, double[n, 2] new_step) {{
      image_shape = Shape(image)
      image_hw = Slice(image_shape, l0, l2)
      image_wh = Gather(image_hw, yx)
      image_wh_d = Cast<to={DOUBLE}>(image_wh)

      # No boxes: the whole image, not enlarged.
      box_count = Shape<start=0, end=1>(boxes)
      is_whole = Equal(box_count, l0)
      whole_rows = Cast<to={INT64}>(is_whole)
      whole_shape = Concat<axis=0>(whole_rows, l2)
      whole_xy = Expand(origin, whole_shape)
      whole_wh = Expand(image_wh_d, whole_shape)
      boxes_d = Cast<to={DOUBLE}>(boxes)
      given_xy = Slice(boxes_d, l0, l2, l1)
      given_wh = Slice(boxes_d, l2, l4, l1)
      given_padded = Mul(given_wh, padding)
      given_half = Mul(given_wh, half)
      given_centre = Add(given_xy, given_half)
      whole_half = Mul(whole_wh, half)
      whole_centre = Add(whole_xy, whole_half)
      centre = Concat<axis=0>(given_centre, whole_centre)
      padded = Concat<axis=0>(given_padded, whole_wh)

      # Enlarged in one direction to the crop's aspect.
      padded_w = Slice(padded, l0, l1, l1)
      padded_h = Slice(padded, l1, l2, l1)
      wanted_w = Mul(padded_h, aspect)
      wanted_h = Div(padded_w, aspect)
      fitted_w = Max(padded_w, wanted_w)
      fitted_h = Max(padded_h, wanted_h)
      fitted_wh = Concat<axis=1>(fitted_w, fitted_h)
      fitted_half = Mul(fitted_wh, half)
      new_corner = Sub(centre, fitted_half)
      new_step = Div(fitted_wh, size)

      n_1 = Shape<start=0, end=1>(new_corner)
      n_0 = Squeeze(n_1)
      new_cut = Loop <body = of_one_box (int64 i, bool go) => (bool go_on, uint8[{HEIGHT}, {WIDTH}, 3] crop) {{
        go_on = Identity(go)
        corner_xy = Gather(new_corner, i)
        step_xy = Gather(new_step, i)

        # Blocks of 1, 2, 4 or 8 px: more for each limit that the geometric mean of the steps reaches.
        squared = ReduceProd<keepdims=0>(step_xy)
        mean_step = Sqrt(squared)
        reached = GreaterOrEqual(mean_step, limits)
        reached_i = Cast<to={INT64}>(reached)
        more = Mul(reached_i, growth)
        more_all = ReduceSum<keepdims=0>(more)
        block = Add(more_all, i1)
        block_d = Cast<to={DOUBLE}>(block)

        # The part of the image under the crop, from and to whole blocks, one more on each side, but not outside.
        extent = Mul(step_xy, size)
        end_xy = Add(corner_xy, extent)
        first_real = Div(corner_xy, block_d)
        first_floor = Floor(first_real)
        first_block = Sub(first_floor, d1)
        last_real = Div(end_xy, block_d)
        last_ceil = Ceil(last_real)
        last_block = Add(last_ceil, d1)
        image_real = Div(image_wh_d, block_d)
        image_blocks = Ceil(image_real)
        first_at_least = Max(first_block, d0)
        first = Min(first_at_least, image_blocks)
        last_at_least = Max(last_block, first)
        last = Min(last_at_least, image_blocks)
        first_i = Cast<to={INT64}>(first)
        last_i = Cast<to={INT64}>(last)
        start_px = Mul(first_i, block)
        whole_px = Mul(last_i, block)
        inside_px = Min(whole_px, image_wh)
        end_px = Max(inside_px, start_px)
        start_hw = Gather(start_px, yx)
        end_hw = Gather(end_px, yx)
        part = Slice(image, start_hw, end_hw, rows_columns)

        # Means of blocks; what is missing in the last ones is black. Ties go as OpenCV has them: up for 2, to even for
        # 4 and 8.
        is_reduced = Greater(block, i1)
        blocks = If <
          then_branch = means () => (float[bh, bw, 3] reduced) {{
            missing = Sub(whole_px, end_px)
            missing_hw = Gather(missing, yx)
            none_hw = Sub(missing_hw, missing_hw)
            pads = Concat<axis=0>(none_hw, missing_hw)
            full = Pad(part, pads, black, rows_columns)
            count = Sub(last_i, first_i)
            count_w = Slice(count, l0, l1)
            count_h = Slice(count, l1, l2)
            block_1 = Unsqueeze(block, first_axis)
            by_block = Concat<axis=0>(count_h, block_1, count_w, block_1, l3)
            full_f = Cast<to={FLOAT}>(full)
            in_blocks = Reshape<allowzero=1>(full_f, by_block)
            mean = ReduceMean<keepdims=0>(in_blocks, in_block)
            mean_up = Add(mean, f_half)
            rounded_up = Floor(mean_up)
            rounded_to_even = Round(mean)
            is_two = Equal(block, i2)
            reduced = Where(is_two, rounded_up, rounded_to_even)
          }},
          else_branch = pixels () => (float[bh, bw, 3] kept) {{ kept = Cast<to={FLOAT}>(part) }}
        >(is_reduced)

        # Where the crop's columns, and then its rows, lie among the blocks, in steps of 1/32.
        offset = Sub(first_real, first)
        step_blocks = Div(step_xy, block_d)
        offset_each = Gather(offset, axis_each)
        step_each = Gather(step_blocks, axis_each)
        scaled_each = Mul(middle_each, step_each)
        from_each = Add(scaled_each, offset_each)
        at_each = Sub(from_each, half)
        in_32 = Mul(at_each, fractions)
        up_32 = Add(in_32, half_up)
        whole_32 = Floor(up_32)
        rounded_each = Div(whole_32, fractions)
        at_x, at_y = Split<axis=0>(rounded_each, sides)

        # Rows: two neighbours each, blended; a black row above and one below stand for all outside.
        blocks_hw = Shape<start=0, end=2>(blocks)
        blocks_h = Gather(blocks_hw, i0)
        blocks_w = Gather(blocks_hw, i1)
        framed = Pad(blocks, one_around, , first_axis)
        below_last = Add(blocks_h, i1)
        above_d = Floor(at_y)
        above_share = Sub(at_y, above_d)
        share_f = Cast<to={FLOAT}>(above_share)
        share_column = Unsqueeze(share_f, l1)
        share = Unsqueeze(share_column, l2)
        above_i = Cast<to={INT64}>(above_d)
        above_framed = Add(above_i, i1)
        below_framed = Add(above_framed, i1)
        above_low = Max(above_framed, i0)
        above = Min(above_low, below_last)
        below_low = Max(below_framed, i0)
        below = Min(below_low, below_last)
        upper = Gather(framed, above)
        lower = Gather(framed, below)
        difference = Sub(lower, upper)
        weighted = Mul(difference, share)
        rows = Add(upper, weighted)

        # Columns: a product with the two weights each; columns outside have none.
        column_i = Range(i0, blocks_w, i1)
        column_d = Cast<to={DOUBLE}>(column_i)
        column = Unsqueeze(column_d, l1)
        distance = Sub(column, at_x)
        distance_f = Cast<to={FLOAT}>(distance)
        distance_abs = Abs(distance_f)
        weight_any = Sub(f1, distance_abs)
        weight = Relu(weight_any)
        planes = Transpose<perm=[2, 0, 1]>(rows)
        crop_planes = MatMul(planes, weight)
        crop_pixels = Transpose<perm=[1, 2, 0]>(crop_planes)
        crop_up = Add(crop_pixels, f_half)
        crop_floor = Floor(crop_up)
        crop = Cast<to={UINT8}>(crop_floor)
      }}>(n_0, yes)
    }}
  >(are_given)
}}
"""

# The outputs of a network on crops, put on the image: sigma by the mean enlargement, as `Keypoints.mapped` has it.
PLACE = """
<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
place ({INPUTS}, double[n, 2] corner, double[n, 2] step) => ({OUTPUTS})
<double half_px = {{0.5}}, int64[1] axis_k = {{1}}, int64[1] axis_row = {{3}}, int64[1] axis_xy = {{2}}>
{{
  corner_k = Unsqueeze(corner, axis_k)
  step_k = Unsqueeze(step, axis_k)
  {NODES}
}}
"""
NODES = {
    "xy": """
  xy_d = Cast<to={DOUBLE}>(xy_crop)
  xy_edge = Add(xy_d, half_px)
  xy_scaled = Mul(xy_edge, step_k)
  xy_corner = Add(xy_scaled, corner_k)
  xy_px = Sub(xy_corner, half_px)
  xy = Cast<to={FLOAT}>(xy_px)""",
    "score": "score = Identity(score_crop)",
    "sigma": """
  step_squared = ReduceProd<keepdims=1>(step_k, axis_xy)
  enlargement = Sqrt(step_squared)
  sigma_d = Cast<to={DOUBLE}>(sigma_crop)
  sigma_px = Mul(sigma_d, enlargement)
  sigma = Cast<to={FLOAT}>(sigma_px)""",
    "jacobian": """
  step_rows = Unsqueeze(step_k, axis_row)
  step_f = Cast<to={FLOAT}>(step_rows)
  jacobian = Mul(jacobian_crop, step_f)""",
    "correlation": "correlation = Identity(correlation_crop)",  # crops are upright
}
SHAPES = {
    "xy": "float[n, k, 2]",
    "score": "float[n, k]",
    "sigma": "float[n, k, 2]",
    "jacobian": "float[n, k, 2, 2]",
    "correlation": "float[n, k]",
}


def crop_model(size: Size, padding: float) -> onnx.ModelProto:
    """image uint8 [h, w, 3], boxes float [n, 4], crops uint8 [m, H, W, 3] -> cut, corner, step.

    Without boxes (n = 0) the whole image is one. `crops` may be left out; where it has rows, they are passed on as they
    are and image and boxes are not looked at: the points behind will be in px of these crops."""
    limits = {name: f / (1 + crops.TOLERANCE) for name, f in zip(("EIGHT", "FOUR", "TWO"), crops.BLOCKS, strict=True)}
    # The middles of the crop's columns and rows from its outer edge, px, and which of the two each is of.
    middles = ", ".join(str(i + 0.5) for side in size for i in range(side))
    axes = ", ".join(str(axis) for axis, side in enumerate(size) for _ in range(side))
    model = parsed(
        CROP,
        WIDTH=size.w,
        HEIGHT=size.h,
        BOTH=size.w + size.h,
        PADDING=padding,
        ASPECT=size.w / size.h,
        MIDDLES=middles,
        AXES=axes,
        FRACTIONS=geometry.FRACTIONS,
        HALF_UP=geometry.HALF_UP,
        **limits,
    )
    nothing = helper.make_tensor("crops", TensorProto.UINT8, (0, size.h, size.w, 3), [])
    model.graph.initializer.append(nothing)
    return model


def place_model(outputs: tuple[str, ...]) -> onnx.ModelProto:
    """xy_crop, score_crop, .. on the crops, and their corner and step -> xy, score, .. on the image."""
    inputs = ", ".join(f"{SHAPES[name]} {name}_crop" for name in outputs)
    results = ", ".join(f"{SHAPES[name]} {name}" for name in outputs)
    nodes = "\n  ".join(NODES[name] for name in outputs).format(DOUBLE=TensorProto.DOUBLE, FLOAT=TensorProto.FLOAT)
    return parsed(PLACE, INPUTS=inputs, OUTPUTS=results, NODES=nodes)


def parsed(text: str, **values: object) -> onnx.ModelProto:
    """Reads a graph in ONNX's own text, without what `#` begins; values in braces are filled in."""
    lines = [line.partition("#")[0] for line in text.splitlines()]
    types = {name: TensorProto.DataType.Value(name) for name in ("DOUBLE", "FLOAT", "INT64", "UINT8")}
    model = parser.parse_model("\n".join(lines).format(OPSET=OPSET, IR_VERSION=IR_VERSION, **types, **values))
    onnx.checker.check_model(model)
    return model
