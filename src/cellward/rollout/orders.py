"""Orders: which target each ECU of a vehicle is to run."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cellward.core.errors import Code, PolicyRefused
from cellward.core.metadata import Target
from cellward.ports.registry import Order, Registry, Vehicle
from cellward.rollout.inventory import known_vehicle

# Puts an encrypted target's content key, wrapped for the module of that serial, where the Director looks.
Wrap = Callable[[Target, str], None]


def wraps_nothing(target: Target, serial: str) -> None:
    """Raises PolicyRefused (image.encryption): an order that no module could carry out."""
    raise PolicyRefused(
        Code.IMAGE_ENCRYPTION,
        f"target {target.name}",
        expected=f"its content key, to be wrapped for module {serial}",
        found="none here",
    )


def order(
    registry: Registry, vehicle_id: str, targets: Sequence[Target], wrap: Wrap = wraps_nothing
) -> tuple[Order, ...]:
    """Order each target for every ECU of the vehicle with its hardware and stage.

    Raises what `wrap` raises, and PolicyRefused: vehicle.unknown, target.hardware where no ECU fits,
    target.ecu where two targets are for one ECU. Nothing is ordered then.
    """
    vehicle = known_vehicle(registry, vehicle_id)
    wanted = [(ecu_id, target) for target in targets for ecu_id in _fitting(vehicle, target)]
    # What is encrypted how is for the Image repository to say: the Director repeats what SHALL match.
    orders = [Order(ecu_id, replace(target, plain_sha256="")) for ecu_id, target in wanted]
    ecu_ids = [order.ecu_id for order in orders]
    twice = next((ecu_id for ecu_id in ecu_ids if ecu_ids.count(ecu_id) > 1), None)
    if twice is not None:
        raise PolicyRefused(Code.TARGET_ECU, f"ECU {twice}", expected="one target", found="two")
    for ecu_id, target in wanted:
        if target.encrypted:
            wrap(target, ecu_id.partition("/")[0])
    registry.assign(vehicle_id, orders)
    return tuple(orders)


def _fitting(vehicle: Vehicle, target: Target) -> list[str]:
    fitting = [
        ecu.ecu_id
        for ecu in vehicle.ecus
        if ecu.stage == target.stage and ecu.hardware_id in target.hardware_ids
    ]
    if not fitting:
        hardware = ", ".join(target.hardware_ids)
        raise PolicyRefused(
            Code.TARGET_HARDWARE,
            f"target {target.name}",
            expected=f"an ECU of {vehicle.vehicle_id} with {hardware} and {target.stage}",
            found=", ".join(f"{ecu.ecu_id} {ecu.hardware_id}" for ecu in vehicle.ecus) or "no ECU",
        )
    return fitting
