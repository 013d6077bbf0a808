"""Images of procedural people: pose, rasterise at twice the size, paint, light, average; with classes and depth.

Lights are carried with the head, so that the same head looks the same from every camera (the tri-plane's world).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.analysis.segmentation_classes import BODY_SKIN, CLOTHES, FACE_SKIN, HAIR, HEAD_CLASSES, OTHERS
from modules.face3d.coefficients import FaceCoefficients, camera_points, pose_points
from modules.face3d.rasterizer import Fragments, rasterize
from modules.face3d.shading import vertex_normals
from modules.procedural import painting
from modules.procedural.backdrop import backdrop
from modules.procedural.head import GROUPS, ProceduralModel
from modules.procedural.painting import SurfacePoints
from modules.procedural.person import Person

SUPERSAMPLING = 2
_TORSO_ROTATION = 0.12  # shares of the head's motion that the shoulders follow
_TORSO_TRANSLATION = 0.5  # sideways and up; all of the distance
_TWO_SIDED = ("lids", "mouth", "teeth", "tongue")
_HAIR_LIFT = 0.012  # dm; hair this little behind the skin is still seen


@dataclass(frozen=True)
class Rendering:
    """T rendered frames.

    Args:
        image: [T, 3, H, W] in [-1, 1].
        classes: [T, H, W] uint8: 0 background, 1 hair, 2 neck, 3 face and ears, 4 clothes, 5 others.
        depth: [T, 1, H, W] dm from the camera, 0 where nothing is.
    """

    image: Tensor
    classes: Tensor
    depth: Tensor


@dataclass(frozen=True)
class _Layer:
    """Painted pixels of one frame: colour [N, 3], cover [N], kind [N], depth [N] at the flat indices `pixels` [N]."""

    pixels: Tensor
    colour: Tensor
    cover: Tensor
    kind: Tensor
    depth: Tensor


@dataclass(frozen=True)
class _Pixels:
    """What a layer shows at the flat indices `pixels` [N]: triangle [N], depth [N] and the surface there."""

    pixels: Tensor
    triangle: Tensor
    depth: Tensor
    surface: SurfacePoints


@torch.no_grad()
def render(
    model: ProceduralModel,
    person: Person,
    coefficients: FaceCoefficients,
    size: int,
    parts: str = "full",
    background: Tensor | None = None,
) -> Rendering:
    """Render a person over T frames.

    Args:
        model: on the device of the coefficients.
        person: gives colours, hair and light.
        coefficients: T rows; their identity gives the shape (`person.identity[None]` for the person's own).
        size: pixels a side.
        parts: "full", or "head" for the head's classes (1, 3, 5) on -1.
        background: [3, size, size] in [-1, 1]; None for the person's own.
    """
    if parts not in ("full", "head"):
        raise ValueError(f"parts must be 'full' or 'head', not {parts!r}")
    if background is None:
        background = backdrop(person.seed, size).to(model.mean.device)
    shapes = canonical_vertices(model, person, coefficients)
    points = camera_points(posed_vertices(model, shapes, coefficients))
    frames = [_frame(model, person, shape, seen, size) for shape, seen in zip(shapes, points)]
    image, classes, depth = (torch.stack(values) for values in zip(*frames))  # at SUPERSAMPLING * size
    return _finish(image, classes, depth, background if parts == "full" else None)


def canonical_vertices(model: ProceduralModel, person: Person, coefficients: FaceCoefficients) -> Tensor:
    """Vertices [T, V, 3] dm without pose, with the person's hair, of T rows of coefficients."""
    vertices = model.vertices(coefficients.identity, coefficients.expression)
    hair = model.vertex_group("hair")
    vertices[:, hair] += person.hair_points.to(vertices) - model.default_hair
    return vertices


def posed_vertices(model: ProceduralModel, vertices: Tensor, coefficients: FaceCoefficients) -> Tensor:
    """Pose vertices [T, V, 3] dm: the head's as the head, the shoulders' as the torso, the neck's in between."""
    euler, translation = coefficients.euler, coefficients.translation
    head = pose_points(vertices, euler, translation)
    share = translation.new_tensor([_TORSO_TRANSLATION, _TORSO_TRANSLATION, 1.0])
    torso = pose_points(vertices, euler * _TORSO_ROTATION, translation * share)
    height = model.mean[:, 1]
    top, bottom = (float(model.mean[model.vertex_group("skin"), 1].min()) + offset for offset in (0.25, -0.40))
    blend = ((top - height) / (top - bottom)).clamp(0, 1)
    blend = blend * blend * (3 - 2 * blend) * model.vertex_group("neck")
    blend = torch.where(model.vertex_group("shoulders"), torch.ones_like(blend), blend)
    return torch.lerp(head, torso, blend[None, :, None])


def _frame(
    model: ProceduralModel, person: Person, shape: Tensor, points: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One frame at SUPERSAMPLING * size: colour and cover [S, S, 4], classes [S, S], depth [S, S]."""
    large = size * SUPERSAMPLING
    normals = vertex_normals(shape, model.triangles)
    attributes = torch.cat([model.paint, normals, model.lip[:, None]], dim=1)  # [V, 7]
    kinds = model.groups[model.triangles].amax(dim=1)
    hairy = kinds == GROUPS.index("hair")
    facing = _facing(points, model.triangles)
    double = torch.tensor([name in _TWO_SIDED for name in GROUPS], device=points.device)[kinds.long()]
    body = model.triangles[~hairy & (facing | double)]
    behind = rasterize(points[None], body, large)
    colour = points.new_zeros(large * large, 4)
    classes = torch.zeros(large * large, dtype=torch.uint8, device=points.device)
    depth = behind.depth.flatten().clone()
    visible, layers = behind.mask.flatten(), []
    if not person.hair_style.hairless:
        strands = model.triangles[hairy & facing if person.hair_style.ends == 0 else hairy]
        front = rasterize(points[None], strands, large)
        nearer = front.mask.flatten() & (~visible | (front.depth.flatten() - _HAIR_LIFT < depth))
        layers = [_paint_hair(person, _surface_points(front, nearer, attributes, strands))]
        visible = visible.index_put((layers[0].pixels[layers[0].cover > 0.999],), visible.new_zeros(()))
    layers.insert(0, _paint_body(model, person, _surface_points(behind, visible, attributes, body), body))
    for layer in layers:
        _compose((colour, classes, depth), layer)
    return colour.view(large, large, 4), classes.view(large, large), depth.view(large, large)


def _facing(points: Tensor, triangles: Tensor) -> Tensor:
    """[F] True for triangles whose outside the camera sees."""
    screen = points[:, :2] / points[:, 2:]
    a, b, c = (screen[triangles[:, k]] for k in range(3))
    ab, ac = b - a, c - a
    return ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0] > 0


def _surface_points(fragments: Fragments, where: Tensor, attributes: Tensor, triangles: Tensor) -> _Pixels:
    """The surface, interpolated at the pixels where `where` [S * S] is True."""
    pixels = torch.nonzero(where).squeeze(1)
    chosen = fragments.triangle.flatten()[pixels]
    corners = attributes[triangles].index_select(0, chosen)  # [N, 3, 7]
    weights = fragments.barycentric.flatten(0, 2)[pixels]
    values = (corners * weights[..., None]).sum(dim=1)
    surface = SurfacePoints(values[:, :3], F.normalize(values[:, 3:6], dim=-1), values[:, 6])
    return _Pixels(pixels, chosen, fragments.depth.flatten()[pixels], surface)


def _select(surface: SurfacePoints, rows: Tensor) -> SurfacePoints:
    return SurfacePoints(surface.paint[rows], surface.normal[rows], surface.lip[rows])


def _paint_body(model: ProceduralModel, person: Person, seen: _Pixels, triangles: Tensor) -> _Layer:
    part = model.groups[triangles].amax(dim=1)[seen.triangle]
    colour = seen.depth.new_zeros(len(part), 3)
    kind = torch.full_like(part, FACE_SKIN)
    for number, name in enumerate(GROUPS[:-1]):
        rows = torch.nonzero(part == number).squeeze(1)
        if len(rows):
            colour[rows], kind[rows] = _paint_part(name, _select(seen.surface, rows), person)
    return _Layer(seen.pixels, colour, torch.ones_like(seen.depth), kind, seen.depth)


def _paint_part(name: str, surface: SurfacePoints, person: Person) -> tuple[Tensor, Tensor]:
    """Lit colour [N, 3] and class [N] of pixels of one part."""
    count = len(surface.lip)
    kind = torch.full((count,), FACE_SKIN, dtype=torch.uint8, device=surface.lip.device)
    if name == "skin":
        albedo, gloss, scalp = painting.paint_skin(surface, person)
        return light(albedo, surface.normal, person, gloss), torch.where(scalp > 0.5, HAIR, kind)
    if name == "ears":
        return light(painting.paint_ears(surface, person), surface.normal, person), kind
    if name == "neck":
        return light(painting.paint_neck(surface, person), surface.normal, person), kind.fill_(BODY_SKIN)
    if name == "shoulders":
        albedo, cloth = painting.paint_shoulders(surface, person)
        return light(albedo, surface.normal, person), torch.where(cloth > 0.5, CLOTHES, BODY_SKIN).to(torch.uint8)
    if name == "eyeballs":
        return _lit_eyes(surface, person), kind
    if name == "lids":
        skin = person.skin.to(surface.lip.device)
        return (skin * skin.new_tensor([0.72, 0.50, 0.48])).expand(count, 3), kind
    painted = {
        "mouth": lambda: painting.paint_mouth(surface, person),
        "teeth": lambda: painting.paint_teeth(surface),
        "tongue": lambda: painting.paint_tongue(surface),
    }[name]()
    return painted * 0.92, kind


def _paint_hair(person: Person, seen: _Pixels) -> _Layer:
    surface = seen.surface
    albedo, cover = painting.paint_hair(surface, person)
    inner = surface.normal[:, 2] < -0.25
    lit = light(albedo, surface.normal, person) + albedo * (0.35 * _sheen(surface, person))[:, None]
    lit = torch.where(inner[:, None], albedo * 0.45, lit)
    kind = torch.full((len(cover),), HAIR, dtype=torch.uint8, device=albedo.device)
    return _Layer(seen.pixels, lit, cover, kind, seen.depth)


def _sheen(surface: SurfacePoints, person: Person) -> Tensor:
    """[N] band of light where the half vector is across the strands, which run down the head."""
    half = F.normalize(person.light[0].to(surface.normal) + surface.normal.new_tensor([0, 0, 1.0]), dim=0)
    down = surface.normal.new_tensor([0, -1.0, 0]) + surface.normal * surface.normal[:, 1:2]
    along = (F.normalize(down, dim=-1) @ half).abs()
    return (1 - along**2).clamp(min=0) ** 18 * (surface.normal @ half).clamp(min=0)


def light(albedo: Tensor, normal: Tensor, person: Person, gloss: Tensor | None = None) -> Tensor:
    """Two soft lights, light from the sky and a weak gloss.

    Args:
        albedo: [N, 3] in 0..1.
        normal: [N, 3] unit, in the head's axes.
        person: whose lights they are.
        gloss: [N]; None for a dull surface.
    Returns:
        Lit colours [N, 3], 0 or more.
    """
    directions, colours = person.light.to(albedo), person.light_colour.to(albedo)
    sky = 0.46 + 0.11 * normal[:, 1] + 0.07 * normal[:, 2]
    diffuse = ((normal @ directions.T + 0.30) / 1.30).clamp(min=0) @ colours  # [N, 3]
    lit = albedo * (sky[:, None] + diffuse)
    if gloss is None:
        return lit
    half = F.normalize(directions[0] + normal.new_tensor([0, 0, 1.0]), dim=0)
    return lit + (gloss * (normal @ half).clamp(min=0) ** 24)[:, None] * colours[0] * 1.6


def _lit_eyes(surface: SurfacePoints, person: Person) -> Tensor:
    normal = surface.normal
    lit = light(painting.paint_eyes(surface, person), normal, person) * 1.08
    lit = lit * (1 - 0.45 * painting.step(normal[:, 1], 0.16, 0.50))[:, None]  # shadow of the upper lid
    half = F.normalize(person.light[0].to(normal) * 0.6 + normal.new_tensor([0, 0.05, 1.0]), dim=0)
    glint = painting.step(normal @ half, 0.9905, 0.9950)
    return painting.mix(lit, normal.new_ones(3), 0.85 * glint)


def _compose(buffers: tuple[Tensor, Tensor, Tensor], layer: _Layer) -> None:
    """Lay a layer over (colour and cover [S*S, 4], classes, depth)."""
    colour, classes, depth = buffers
    new = torch.cat([layer.colour, torch.ones_like(layer.cover[:, None])], dim=1)
    colour[layer.pixels] = torch.lerp(colour[layer.pixels], new, layer.cover[:, None])
    solid = torch.nonzero(layer.cover > 0.5).squeeze(1)
    classes[layer.pixels[solid]] = layer.kind[solid]
    depth[layer.pixels[solid]] = layer.depth[solid]


def _finish(colour: Tensor, classes: Tensor, depth: Tensor, background: Tensor | None) -> Rendering:
    """Average to the final size over a background ([3, H, W]; None keeps the head on -1)."""
    if background is None:
        keep = torch.isin(classes, torch.tensor(HEAD_CLASSES, dtype=torch.uint8, device=classes.device))
        colour, depth, classes = colour * keep[..., None], depth * keep, classes * keep
    pooled = sum(_fine_pixels(colour)) / SUPERSAMPLING**2  # [T, H, W, 4]
    rest = (background.permute(1, 2, 0) + 1) / 2 if background is not None else 0
    image = (pooled[..., :3] + (1 - pooled[..., 3:]) * rest).clamp(0, 1) * 2 - 1  # colour holds its cover
    final = _majority(_fine_pixels(classes))
    covered = sum((fine > 0).float() for fine in _fine_pixels(depth))
    mean_depth = sum(_fine_pixels(depth)) / covered.clamp(min=1)
    return Rendering(image.permute(0, 3, 1, 2), final, torch.where(final > 0, mean_depth, 0.0)[:, None])


def _fine_pixels(image: Tensor) -> list[Tensor]:
    """[T, S, S, ...] -> SUPERSAMPLING^2 images [T, H, W, ...]: the fine pixels of each pixel."""
    every = range(SUPERSAMPLING)
    return [image[:, row::SUPERSAMPLING, column::SUPERSAMPLING] for row in every for column in every]


def _majority(images: list[Tensor]) -> Tensor:
    """The most frequent class of each pixel, the lowest on a tie: [T, H, W] uint8."""
    final = images[0].clone()
    mixed = torch.nonzero(sum((image != final) for image in images[1:]), as_tuple=True)
    votes = torch.stack([image[mixed] for image in images])  # [fine, M]
    counts = torch.stack([(votes == kind).sum(dim=0) for kind in range(OTHERS + 1)])
    final[mixed] = counts.argmax(dim=0).to(torch.uint8)
    return final
