"""Colours of a procedural person at points of the surface, in closed form: crisp at any size, no texture files.

The `paint_*` functions take the surface points of N pixels of a part and a person, and return albedo [N, 3] in 0..1.
Paint coordinates move with the skin, so painted brows, lips and lashes follow every expression.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.procedural.person import Person
from modules.procedural.template import EYE_CENTRE, EYE_HALF_WIDTH, LID_DROP, LID_RISE, MOUTH_HALF_WIDTH, MOUTH_HEIGHT


@dataclass(frozen=True)
class SurfacePoints:
    """What N pixels of one part show of the surface.

    Args:
        paint: [N, 3] coordinates for the painter; their meaning depends on the part.
        normal: [N, 3] unit, in the head's own axes.
        lip: [N] from 1 (upper lip) to -1 (lower lip), 0 elsewhere.
    """

    paint: Tensor
    normal: Tensor
    lip: Tensor


def mix(base: Tensor, colour: Tensor, share: Tensor) -> Tensor:
    """Move base [N, 3] towards colour [3] or [N, 3] by share [N], clamped to 0..1 -> [N, 3]."""
    return base + share.clamp(0, 1)[:, None] * (colour - base)


def spot(x: Tensor, y: Tensor, shape: tuple[float, float, float, float]) -> Tensor:
    """Gaussian of shape (x, y, width, height) at x, y [N] -> [N], 1 in its middle."""
    x0, y0, width, height = shape
    return torch.exp(-(((x - x0) / width) ** 2) - ((y - y0) / height) ** 2)


def step(value: Tensor, low: float, high: float) -> Tensor:
    """Any shape -> the same, 0 below `low`, 1 above `high`, smooth between; low > high reverses it."""
    share = ((value - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def noise(points: Tensor, scale: float, phase: float, waves: int = 6) -> Tensor:
    """Smooth noise of about unit variance: a few sines in scattered directions.

    Args:
        points: [N, D] with D = 2 or 3.
        scale: about how many waves there are in a unit of `points`.
        phase: radians; other phases give other noise.
        waves: number of the sines.
    Returns:
        [N].
    """
    number = torch.arange(1, waves + 1, dtype=points.dtype, device=points.device)
    angles = torch.stack([number * 2.399963 + phase, number * 1.713 + 0.7 * phase], dim=0)
    direction = torch.stack([angles[0].cos(), angles[0].sin(), angles[1].cos()], dim=0)[: points.shape[1]]
    stretch = scale * (0.6 + 0.8 * torch.frac(number * 0.618))
    wave = torch.sin(points @ (direction * stretch * 6.2832) + number * 1.9 + phase)  # [N, waves]
    return wave.mean(dim=1) * (2 * waves) ** 0.5 / 1.4


@dataclass(frozen=True)
class _Skin:
    """Pixels of the skin: |x|, y, z [N] of the paint, lip [N], paint [N, 3]; left and right are painted alike."""

    x: Tensor
    y: Tensor
    z: Tensor
    lip: Tensor
    paint: Tensor

    def rows(self, where: Tensor) -> "_Skin":
        return _Skin(self.x[where], self.y[where], self.z[where], self.lip[where], self.paint[where])


def paint_skin(surface: SurfacePoints, person: Person) -> tuple[Tensor, Tensor, Tensor]:
    """Albedo [N, 3], gloss [N] and share of hair on the scalp [N], 0..1 each, of face and skull."""
    side, y, z = surface.paint.unbind(-1)
    skin = _Skin(side.abs(), y, z, surface.lip, surface.paint)
    x, front = skin.x, z > 0
    colour = _complexion(skin, person)
    gloss = torch.full_like(y, person.shade["gloss"])
    regions = (
        (_eye_region, front & (y > 0.06) & (y < 0.40) & (x < 0.56)),
        (_creases, front & (y > -0.62) & (y < -0.0) & (x < 0.42)),
        (_wrinkles, front & (y > 0.1) if person.shade["age"] > 0.35 else None),
        (_beard, (y < 0.28) & (z > -0.35) if person.shade["stubble"] + person.shade["beard"] else None),
        (_brows, front & (y > 0.36) & (y < 0.62) & (x < 0.56)),
    )
    for paint, where in regions:
        rows = torch.nonzero(where).squeeze(1) if where is not None else ()
        if len(rows):
            colour[rows] = paint(colour[rows], skin.rows(rows), person)
    rows = torch.nonzero(front & (y > -0.57) & (y < -0.31) & (x < 0.29)).squeeze(1)
    if len(rows):
        colour[rows], red = _lips(colour[rows], skin.rows(rows), person)
        gloss[rows] *= 1 + 1.6 * red
    scalp = torch.zeros_like(y)
    rows = torch.nonzero((z < 0.22) | (y > 0.42)).squeeze(1)
    if len(rows) and not person.hair_style.hairless:
        scalp[rows] = _scalp(skin.rows(rows), person)
        rows = torch.nonzero(scalp > 0.01).squeeze(1)
        speckle = 0.85 + 0.12 * noise(surface.paint[rows] * colour.new_tensor([1, 0.3, 1]), 14.0, person.shade["phase"])
        colour[rows] = mix(colour[rows], person.hair.to(colour) * speckle[:, None], scalp[rows] * 0.96)
    return colour, gloss * (1 - scalp), scalp


def _complexion(at: _Skin, person: Person) -> Tensor:
    shade, skin, x, y = person.shade, person.skin.to(at.x), at.x, at.y
    blush = spot(x, y, (0.42, -0.06, 0.20, 0.16)) + 0.7 * spot(x, y, (0, -0.08, 0.10, 0.12))
    colour = mix(skin.expand(len(x), 3), skin * skin.new_tensor([1.02, 0.80, 0.77]), 0.6 * shade["redness"] * blush)
    mottle = noise(at.paint, 3.0, shade["phase"], 4) * 0.014
    colour = colour * (1 + mottle)[:, None]
    if shade["freckles"]:
        dots = step(noise(at.paint, 22.0, shade["phase"] + 9, 9), 1.0, 1.6)
        where = spot(x, y, (0.25, 0.02, 0.3, 0.17))
        colour = mix(colour, skin * skin.new_tensor([0.75, 0.58, 0.48]), 0.7 * shade["freckles"] * dots * where)
    return colour


def _lid_edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Heights of the edges of the upper and the lower lid above the eye's centre at x, as in template.eye_contour."""
    along = ((x - EYE_CENTRE[0]) / EYE_HALF_WIDTH).clamp(-1, 1)
    across = (1 - along**2).clamp(min=0)
    return LID_RISE * across**0.625 + 0.010 * along, -LID_DROP * across**0.675 + 0.010 * along


def _eye_region(colour: Tensor, at: _Skin, person: Person) -> Tensor:
    shade, skin, x, y = person.shade, person.skin.to(at.x), at.x, at.y
    front = step(at.z, 0.0, 0.15)
    upper, lower = _lid_edges(x)
    height = y - EYE_CENTRE[1]
    over, under = height - upper, lower - height
    near = step((x - EYE_CENTRE[0]).abs(), 0.215, 0.10) * front
    dark = skin * skin.new_tensor([0.70, 0.56, 0.53])
    colour = mix(colour, dark, 0.50 * spot(x, y, (0.30, 0.165, 0.13, 0.050)) * front * (0.30 + 0.5 * shade["age"]))
    colour = mix(colour, dark, 0.36 * spot(x, y, (0.16, 0.275, 0.055, 0.075)) * front)
    crease = torch.exp(-(((over - 0.034 - 0.012 * shade["age"]) / 0.0075) ** 2)) * step((x - 0.315).abs(), 0.17, 0.09)
    colour = mix(colour, dark * 0.80, 0.55 * crease * front)
    lid = step(over, -0.01, 0.0) * step(over, 0.048, 0.026) * near
    colour = mix(colour, dark * 0.9, lid * (0.18 + shade["eye_shadow"]))
    within = step((x - EYE_CENTRE[0]).abs(), EYE_HALF_WIDTH + 0.022, EYE_HALF_WIDTH - 0.004) * front
    outer = 0.6 + 0.4 * step(x, 0.20, 0.40)
    line = step(over, 0.009 + 0.010 * shade["lashes"], 0.002) * step(over, -0.03, -0.008) * outer
    colour = mix(colour, person.brows.to(x) * 0.35, within * line * (0.55 + 0.45 * shade["lashes"]))
    rim = step(under, 0.007, 0.001) * step(under, -0.03, -0.006)
    return mix(colour, dark * 0.55, within * rim * 0.65)


def _creases(colour: Tensor, at: _Skin, person: Person) -> Tensor:
    skin, age, x, y = person.skin.to(at.x), person.shade["age"], at.x, at.y
    dark = skin * skin.new_tensor([0.64, 0.48, 0.45])
    nostril = step(((x - 0.060) / 0.036) ** 2 + ((y + 0.174 - 0.15 * (x - 0.06)) / 0.0145) ** 2, 1.5, 0.6)
    colour = mix(colour, skin * skin.new_tensor([0.22, 0.13, 0.12]), 0.9 * nostril)
    ring = (((x - 0.10) / 0.085) ** 2 + ((y + 0.105) / 0.085) ** 2).sqrt() - 1
    wing = torch.exp(-((ring / 0.13) ** 2)) * step(x, 0.12, 0.16)
    colour = mix(colour, dark, 0.32 * wing * step(y, -0.2, -0.15))
    colour = mix(colour, dark, 0.25 * spot(x, y, (0, -0.205, 0.11, 0.020)))
    away = (x - 0.185 - 0.42 * (-0.13 - y).clamp(min=0)) / 0.018
    fold = torch.exp(-(away**2)) * step(y, -0.36, -0.28) * step(y, -0.10, -0.16)
    colour = mix(colour, dark, fold * (0.05 + 0.35 * age))
    colour = mix(colour, dark, 0.28 * spot(x, y, (MOUTH_HALF_WIDTH + 0.012, MOUTH_HEIGHT - 0.008, 0.030, 0.022)))
    return mix(colour, dark, 0.22 * spot(x, y, (0, -0.575, 0.12, 0.026)))


def _wrinkles(colour: Tensor, at: _Skin, person: Person) -> Tensor:
    skin, age, x, y = person.skin.to(at.x), person.shade["age"], at.x, at.y
    dark = skin * skin.new_tensor([0.62, 0.45, 0.42])
    lines = sum(torch.exp(-(((y - h - 0.02 * torch.cos(4 * x)) / 0.006) ** 2)) for h in (0.60, 0.68, 0.75))
    colour = mix(colour, dark, lines * step(x, 0.38, 0.2) * max(0.0, age - 0.45) * 0.6)
    crow = sum(torch.exp(-(((y - 0.262 - slope * (x - 0.45)) / 0.006) ** 2)) for slope in (-0.5, -0.1, 0.35))
    return mix(colour, dark, crow * spot(x, y, (0.52, 0.25, 0.05, 0.06)) * max(0.0, age - 0.35) * 0.8)


def lip_edges(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Line of the mouth and heights of the red above and below it, [N] dm each, at x [N] >= 0 (as `lip_heights`)."""
    inside = (1 - (x / MOUTH_HALF_WIDTH) ** 2).clamp(min=0)
    line = MOUTH_HEIGHT - 0.006 * (x / MOUTH_HALF_WIDTH).clamp(0, 1) ** 2 - 0.004 * torch.exp(-((x / 0.05) ** 2))
    bow = 0.007 * torch.exp(-(((x - 0.055) / 0.04) ** 2)) - 0.010 * torch.exp(-((x / 0.028) ** 2))
    return line, (0.086 + bow) * inside**0.8, 0.104 * inside**0.62


def _lips(colour: Tensor, at: _Skin, person: Person) -> tuple[Tensor, Tensor]:
    """Colour [N, 3] and share of red [N]."""
    x, y = at.x, at.y
    line, high, low = lip_edges(x)
    above = torch.where(at.lip.abs() > 0.5, at.lip > 0, y > line)
    height = torch.where(above, y - line, line - y)
    red = step(height - torch.where(above, high, low), 0.007, -0.005)
    red = red * step(x, MOUTH_HALF_WIDTH + 0.004, MOUTH_HALF_WIDTH - 0.012)
    lips = person.lips.to(x)
    wrinkles = 1 + 0.05 * noise(torch.stack([x * 3.0, y * 0.4], dim=1), 6.0, person.shade["phase"])
    colour = mix(colour, lips * (wrinkles * torch.where(above, 0.90, 1.04))[:, None], 0.92 * red)
    slit = torch.exp(-((height / 0.0075) ** 2)) * step(x, MOUTH_HALF_WIDTH + 0.03, MOUTH_HALF_WIDTH - 0.02)
    return mix(colour, lips * lips.new_tensor([0.40, 0.28, 0.28]), 0.75 * slit), red


def _beard(colour: Tensor, at: _Skin, person: Person) -> Tensor:
    shade, x, y = person.shade, at.x, at.y
    line, high, low = lip_edges(x)
    off_lips = step(torch.where(y > line, y - line - high, line - y - low), -0.004, 0.010)
    off_lips = torch.maximum(off_lips, step(x, MOUTH_HALF_WIDTH - 0.02, MOUTH_HALF_WIDTH + 0.005))
    ragged = 0.02 * noise(at.paint, 7.0, shade["phase"] + 5, 4)
    under_nose = step(x, 0.15, 0.30)  # 0 below the nose, 1 on the cheeks
    top = -0.215 - 0.20 * under_nose + 0.80 * (x - 0.30).clamp(min=0) + 3.0 * (x - 0.585).clamp(min=0)  # side burns
    soft = 0.04 if shade["beard"] else 0.12
    where = step(y - top + ragged, soft, -soft) * step(at.z, -0.35, -0.15)
    lip = step(y, -0.47, -0.42) * step(x, 0.34, 0.26)
    where = where * off_lips * (1 - lip * (1 - shade["moustache"]))
    grain = 0.5 + 0.15 * noise(at.paint, 12.0, shade["phase"] + 5, 9)
    brows = person.brows.to(x)
    colour = mix(colour, brows, where * shade["stubble"] * (0.55 + 0.5 * grain))
    strands = 0.95 + 0.16 * noise(at.paint * x.new_tensor([1.0, 0.3, 1.0]), 20.0, shade["phase"], 5)
    return mix(colour, brows * 1.2 * strands[:, None], where * shade["beard"])


def _brows(colour: Tensor, at: _Skin, person: Person) -> Tensor:
    shade, x, y = person.shade, at.x, at.y
    along = ((x - 0.095) / 0.395).clamp(-0.3, 1.3)
    middle = 0.450 + shade["brow_arch"] * (1 - ((along - 0.62) / 0.62) ** 2) + shade["brow_tilt"] * along
    thick = shade["brow_thick"] * (1 - 0.66 * step(along, 0.45, 1.05)) * step(along, -0.10, 0.10)
    across = (y - middle) / thick.clamp(min=1e-3)
    strand = noise(torch.stack([x * 2.4 - y * 1.6, y * 0.7], dim=1), 14.0, shade["phase"])
    share = step(across.abs() + 0.22 * strand, 1.35, 0.45) * step(along, -0.08, 0.06) * step(along, 1.08, 0.92)
    share = share * step(at.z, 0.05, 0.12)
    return mix(colour, person.brows.to(x) * (0.95 + 0.12 * strand)[:, None], share * shade["brow_dense"])


def _scalp(at: _Skin, person: Person) -> Tensor:
    """[N] share of hair painted on the skull behind the hair line."""
    degrees = torch.rad2deg(torch.atan2(at.x, (at.z + 0.30) * 0.85)).clamp(0, 179.9)
    low = degrees.long()
    hem = person.hem.to(at.x)
    line = hem[low] + (degrees - low) * (hem[low + 1] - hem[low])
    ragged = 0.014 * noise(at.paint, 9.0, person.shade["phase"], 4) + 0.009 * noise(at.paint, 25.0, 1.0, 4)
    below_ear = step(degrees, 60, 100) * 0.06
    return step(at.y - line.clamp(min=-0.5) + ragged - below_ear, -0.01, 0.06)


def paint_eyes(surface: SurfacePoints, person: Person) -> Tensor:
    """Albedo [N, 3] of the eyeballs; paint = direction from the eyeball's centre, the iris at +z."""
    x, y, _ = surface.paint.unbind(-1)
    away = (x * x + y * y).sqrt()
    turn = torch.atan2(y, x)
    iris = person.iris.to(x.device)
    colour = x.new_tensor([0.93, 0.915, 0.90]).expand(len(x), 3)
    colour = mix(colour, x.new_tensor([0.82, 0.60, 0.56]), 0.55 * step(away, 0.58, 1.0))
    fibres = 1 + 0.20 * torch.sin(17 * turn + 3 * torch.sin(5 * turn)) * torch.sin(40 * away)
    fibres = fibres + 0.25 * step(away, 0.34, 0.20)
    colour = mix(colour, iris * fibres[:, None], step(away, 0.400, 0.375))
    colour = mix(colour, iris * 0.30, 0.75 * torch.exp(-(((away - 0.378) / 0.03) ** 2)))
    return mix(colour, x.new_tensor([0.02, 0.02, 0.025]), step(away, 0.172, 0.150))


def paint_mouth(surface: SurfacePoints, person: Person) -> Tensor:
    """Albedo [N, 3] of inner lips and cavity; paint = (x, way into the mouth, upper 1 / lower -1)."""
    inside = surface.paint[:, 1]
    lips = person.lips.to(inside.device)
    colour = (lips * 0.80).expand(len(inside), 3)
    colour = mix(colour, lips * lips.new_tensor([0.52, 0.34, 0.34]), step(inside, 0.1, 0.7))
    return mix(colour, lips.new_tensor([0.13, 0.035, 0.04]), step(inside, 0.8, 1.5))


def paint_teeth(surface: SurfacePoints) -> Tensor:
    """Albedo [N, 3] of the teeth; paint = (angle along the arch, 0 gum .. 1 edge, upper 1 / lower -1)."""
    turn, share, row = surface.paint.unbind(-1)
    tooth = torch.where(row > 0, turn / 0.235, turn / 0.165)
    gap = torch.frac(tooth.abs())
    gap = torch.minimum(gap, 1 - gap)
    colour = turn.new_tensor([0.90, 0.87, 0.80]).expand(len(turn), 3) * (1 - 0.35 * step(turn.abs(), 0.3, 1.2))[:, None]
    colour = colour * (1 - 0.28 * step(gap, 0.09, 0.0))[:, None]
    colour = mix(colour, turn.new_tensor([0.70, 0.38, 0.38]), step(share, 0.28, 0.16))
    return colour * torch.where(row > 0, 0.97, 0.82)[:, None]


def paint_tongue(surface: SurfacePoints) -> Tensor:
    """Albedo [N, 3] of the tongue: a wet red with a furrow in the middle."""
    x = surface.paint[:, 0]
    colour = x.new_tensor([0.66, 0.30, 0.31]).expand(len(x), 3)
    return colour * (0.72 - 0.15 * torch.exp(-((x / 0.012) ** 2)))[:, None]


def paint_ears(surface: SurfacePoints, person: Person) -> Tensor:
    """Albedo [N, 3] of the ears; paint = (back, up, height of the relief), dm."""
    skin = person.skin.to(surface.paint.device)
    back, up, height = surface.paint.unbind(-1)
    colour = (skin * skin.new_tensor([1.0, 0.90, 0.88])).expand(len(up), 3)
    hollow = step(height, -0.004, -0.036) * step(up.abs(), 0.16, 0.06)
    return mix(colour, skin * skin.new_tensor([0.55, 0.38, 0.35]), 0.75 * hollow)


def paint_neck(surface: SurfacePoints, person: Person) -> Tensor:
    """Albedo [N, 3] of the neck: skin, darker in the shadow of the chin."""
    x, y, z = surface.paint.unbind(-1)
    skin = person.skin.to(x.device)
    colour = skin.expand(len(x), 3) * (1 + 0.012 * noise(surface.paint, 3.0, person.shade["phase"]))[:, None]
    tendon = torch.exp(-(((x.abs() - 0.30 + 0.28 * (-0.9 - y).clamp(0, 1)) / 0.05) ** 2)) * step(z, -0.5, -0.1)
    colour = colour * (1 + 0.03 * tendon)[:, None]
    return mix(colour, skin * skin.new_tensor([0.56, 0.46, 0.44]), 0.85 * step(y, -1.22, -0.93))


def paint_shoulders(surface: SurfacePoints, person: Person) -> tuple[Tensor, Tensor]:
    """Albedo [N, 3] of the torso and its share of cloth [N], 0..1 (the rest is skin)."""
    x, y, z = surface.paint.unbind(-1)
    shade = person.shade
    front = step(z, -0.75, -0.35)
    away = (x.abs() ** 2 + (0.9 * (z + 0.58)) ** 2).sqrt()
    neckline = int(shade["neckline"])
    if neckline == 2:
        cloth = step(away - 0.60 - front * 0.55 * (1 - x.abs() / 0.40).clamp(0, 1), -0.006, 0.006)
    else:
        cloth = step(away - (0.54, 0.68, 0.60, 0.50)[neckline], -0.006, 0.006)
    fold = 0.06 * noise(surface.paint, 1.0, shade["phase"]) + 0.025 * noise(surface.paint, 3.1, 2.0)
    base, accent = person.clothes.to(x.device), person.clothes_accent.to(x.device)
    colour = base.expand(len(x), 3)
    if int(shade["pattern"]) == 2:
        colour = mix(colour, accent, step(torch.sin(y * 34.0), 0.0, 0.25))
    elif int(shade["pattern"]) == 3:
        opening = 0.16 + 0.5 * (-1.35 - y).clamp(min=0) * 0.25
        colour = mix(colour, accent, step(x.abs() - opening, 0.01, -0.01) * front)
    hem = torch.exp(-(((away - (0.54, 0.68, 0.60, 0.50)[neckline] - 0.05) / 0.012) ** 2)) * (neckline != 2)
    colour = colour * (1 + fold - 0.25 * hem)[:, None]
    skin = person.skin.to(x.device).expand(len(x), 3)
    return mix(skin, colour, cloth), cloth


def paint_hair(surface: SurfacePoints, person: Person) -> tuple[Tensor, Tensor]:
    """Albedo [N, 3] and coverage [N], 0..1, of hair; paint = (cos, sin of the angle, fraction from crown to hem)."""
    around, share = torch.atan2(surface.paint[:, 1], surface.paint[:, 0]), surface.paint[:, 2]
    style, shade = person.hair_style, person.shade
    phase = shade["phase"]
    bend = 0.05 * torch.sin(7 * share + 3 * around + phase) + style.wave * 2.2 * torch.sin(14 * share + 9 * around)
    lean = style.sweep * share * (around.cos() > 0) * around.cos()
    lane = torch.stack([(around + bend + lean) * 1.1, share * 0.22], dim=1)
    fine = shade["strands"]
    strands = 0.6 * noise(lane, 11.0 * fine, phase, 4) + 0.5 * noise(lane, 29.0 * fine, phase + 2, 4)
    clumps = noise(lane, 3.2, phase + 4, 4)
    hair = person.hair.to(share.device)
    colour = hair * (1 + 0.17 * strands + 0.15 * clumps)[:, None].clamp(0.4, 1.7)
    colour = colour * (0.80 + 0.20 * step(share, 0.0, 0.5))[:, None]
    if style.part:
        parting = torch.exp(-(((torch.rad2deg(around) - style.part) / 2.2) ** 2)) * step(share, 0.95, 0.5)
        colour = mix(colour, person.skin.to(share.device) * 0.75, 0.35 * parting)
    away = around.abs()
    if style.ends:  # frayed ends behind and in a fringe; a clean edge beside the face
        depth = 0.05 * step(away, 1.1, 1.5) + 0.03 * step(away, 0.75, 0.6)
    else:
        depth = 0.05 + 0.05 * step(away, 1.0, 1.6)
    way = (1 - share) / depth.clamp(min=1e-3) - 0.7 - 0.45 * strands - 0.3 * clumps
    cover = torch.where(depth > 1e-3, step(way, -0.4, 0.4), 1.0)
    return colour, cover
