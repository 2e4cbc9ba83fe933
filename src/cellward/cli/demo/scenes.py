"""What the demo shows, scene by scene: each a plain sequence, in the order of the data's way."""

import json
import re
from collections.abc import Callable
from typing import Any

from cellward.cli.demo.attacker import NOTHING, Attacker
from cellward.cli.demo.intruder import Intruder
from cellward.cli.demo.journal import Actor
from cellward.cli.demo.stage import Said, Stage, Unexpected
from cellward.core.errors import Code
from cellward.core.slots import BMS_M33, BMS_M33_18S
from cellward.core.slots import Stage as Slot
from cellward.rollout.measured import PROVEN

KEYS_SAID = "twelve roles, none of which can be read out"
PACK = "PACK-0001"
SECOND_PACK = "PACK-0002"
SERIAL = "M0001"
MODULE = "m1.module"
SECOND = "firmware-2"
HARDWARE = BMS_M33.name
OTHER_HARDWARE = BMS_M33_18S.name


class Scenes:
    """The cast: one maker, one server, one pack controller with one battery module, one attacker."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._attacker = Attacker(stage, stage.folder / MODULE)
        self._intruder = Intruder(self._attacker, BMS_M33)

    def play(self) -> None:
        for heading, scene in self._program():
            self._stage.say(heading)
            scene()

    def until_enrolled(self) -> None:
        """The first three scenes: an enrolled pack that has polled once, and nothing ordered."""
        for _, scene in self._program()[:3]:
            scene()

    def _program(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        return (
            ("Keys in the token, images signed by them", self._keys_and_images),
            ("A module from the plant: real ROM, loader and app", self._module),
            ("Repositories, server, an enrolled pack", self._server_and_pack),
            ("Update from 1.3.0 to 1.4.0: commits, the counter rises", self._good_update),
            ("The old image does not come back", self._old_image),
            ("Correctly signed, but it fails its self-test", self._failing_update),
            ("Forged, foreign and flipped", self._forgeries),
            ("No certificate, no answer; no TPM of its own, no certificate", self._no_certificate),
            ("The programming cable, at a module that is closed", self._cable),
            ("A power cut in mid-flash", self._power_cut),
            ("A cell of the flash flips under the running app", self._damage),
            ("The firmware key is exchanged, ECDSA for RSA, and the old one revoked", self._rotation),
            ("The case is opened", self._tamper),
        )

    def _keys_and_images(self) -> None:
        self._stage.run(Actor.MAKER, "make the keys inside the token", "keys", "init", said=KEYS_SAID)
        self._stage.run(
            Actor.MAKER, "export the public firmware key", "keys", "export", "firmware", "-o", "firmware.pem"
        )
        self._stage.run(
            *(Actor.MAKER, "make a second firmware key, RSA-3072", "keys", "new", "firmware"),
            *("--name", SECOND, "--algorithm", "rsa-3072"),
            said="for the day the first one must go",
        )
        self._stage.run(
            Actor.MAKER, "export the second firmware key", "keys", "export", SECOND, "-o", f"{SECOND}.pem"
        )
        self._stage.run(Actor.MAKER, "export the public root key", "keys", "export", "root", "-o", "root.pem")
        self._stage.run(Actor.MAKER, "lay out the example firmware", "module", "firmware", "build")
        self._sign("loader-1.3.0.elf", Slot.LOADER, "1.3.0", 6)
        self._sign("app-1.3.0.hex", Slot.APP, "1.3.0", 6)

    def _module(self) -> None:
        run = self._stage.run
        run(
            Actor.MODULE,
            "a blank module",
            *("module", "create", "--state", MODULE, "--hardware", HARDWARE, "--serial", SERIAL),
        )
        line = (
            *("module", "provision", "--state", MODULE, "--firmware-key", "firmware.pem"),
            *("--firmware-key", f"{SECOND}.pem", "--root-key", "root.pem"),
            *("--loader", "loader-1.3.0.img", "--app", "app-1.3.0.img", "--register", "m1.registration"),
        )
        run(Actor.MODULE, "burn keys and identity, write the first images", *line, "--keep-open")
        run(
            *(Actor.MODULE, "calibrate the pack's sensors into the vault", "module", "calibrate"),
            *("--state", MODULE, "--version", "1", "--current-gain-ppm", "-1200"),
            *("--cell-over-mv", "4150", "--cell-under-mv", "2900"),
        )
        run(Actor.MODULE, "prove what was registered, and close", *line)
        self._stage.start(Actor.MODULE, "first boot: ROM, loader, app", "module", "run", "--state", MODULE)

    def _server_and_pack(self) -> None:
        run = self._stage.run
        run(Actor.MAKER, "make both repositories", "repo", "init")
        run(Actor.MAKER, "publish 1.3.0", "repo", "publish", "loader-1.3.0.img", "app-1.3.0.img")
        ports = ("--devices", "127.0.0.1:0", "--enrolment", "127.0.0.1:0")
        ready = self._stage.start(Actor.SERVER, "serve over TLS 1.3", "server", "run", *ports)
        devices, enrolment = (f"https://{address}" for address in re.findall(r"127\.0\.0\.1:\d+", ready))
        self._attacker.devices = devices
        urls = ("--url", devices, "--enrol-url", enrolment)
        run(Actor.MAKER, "write the factory data", "repo", "factory", *urls, "-o", "factory.json")
        run(
            *(Actor.MAKER, "register what the plant kept of the module"),
            *("server", "register", "m1.registration"),
        )
        token = run(
            Actor.SERVER, "a one-time token for the pack", "server", "enrol-token", PACK, said="valid once"
        )
        (self._stage.folder / "token").write_text(token.split()[0])
        authorities = ("--authorities", "tpm-authorities.pem")
        run(Actor.CONTROLLER, "make its TPM", "device", "tpm", "--state", "pack", *authorities)
        run(Actor.SERVER, "know who certified it", "server", "know-tpm", "tpm-authorities.pem")
        run(Actor.SERVER, "know the agent that packs may start", "server", "know-agent")
        run(
            Actor.CONTROLLER,
            "enrol: keys in the TPM, an attested start, a certificate of hours",
            *("device", "enrol", "--state", "pack", "--factory", "factory.json", "--vehicle", PACK),
            *("--token-file", "token", "--module", MODULE),
        )
        self._poll("poll: nothing to do")

    def _good_update(self) -> None:
        before = self._attacker.state()
        self._approved_release("1.4.0", 7, "loader-1.4.0.elf", "app-1.4.0.elf")
        self._poll("verify, install, reset, self-test, commit")
        after = self._attacker.state()
        if (before.counter, after.counter) != (6, 7) or "1.4.0" not in after.running:
            raise Unexpected("update to 1.4.0", "1.4.0 running, counter 6 to 7", str(after))
        self._stage.journal.facts.append(("security counter", f"{before.counter} → {after.counter}"))
        proof = self._measured("compare what was measured at boot with what the app says")
        if proof["code"] != PROVEN:
            raise Unexpected("measured boot", "records of the registered keys", proof["found"])
        said = f"boot {proof['boot_count']}, proven with the registered keys"
        self._stage.journal.facts.append(("measured boot", said))

    def _approved_release(self, version: str, counter: int, loader: str, app: str) -> None:
        """Four eyes: nobody publishes it before somebody else has approved it, with a token of their own."""
        run, folder = self._stage.run, f"release-{version}"
        self._sign(loader, Slot.LOADER, version, counter)
        self._sign(app, Slot.APP, version, counter)
        (self._stage.folder / "notes.md").write_text(f"# {version}\nBalances cells at rest.\n")
        images = ("--image", f"loader-{version}.img", "--image", f"app-{version}.img")
        run(
            *(Actor.MAKER, "bind images, notes and SBOM into a release", "release", "create", version),
            *(*images, "--notes", "notes.md", "--sbom", "build/firmware.cdx.json"),
            *("--no-safety-impact", "-o", folder),
            said="signed over the hash of every file",
        )
        run(Actor.MAKER, "export the public release key", "keys", "export", "release", "-o", "release.pem")
        approver = ("--data", "approver")
        run(Actor.APPROVER, "a key in a token of one's own", *approver, "keys", "init", "--role", "approval")
        run(
            *(Actor.APPROVER, "export its public half", *approver, "keys", "export", "approval"),
            *("-o", "approver.pem"),
        )
        publish = ("repo", "publish", "--release", folder, "--approver", "approver.pem")
        attack = "a release that nobody else has approved"
        self._attacker.by_command(attack, Code.RELEASE_APPROVAL, "publish gate", *publish)
        run(
            *(Actor.APPROVER, "look at the release, approve it", *approver, "release", "approve", folder),
            *("--name", "Ada", "--release-key", "release.pem"),
        )
        run(Actor.MAKER, f"publish release {version}", *publish)
        self._stage.journal.facts.append((f"release {version}", "signed by the maker, approved by Ada"))
        self._order(f"loader-{version}", f"app-{version}")

    def _measured(self, name: str) -> dict[str, Any]:
        """What the server makes of the records that the app forwarded last."""
        told = self._stage.run(
            Actor.SERVER, name, "server", "vehicles", "--json", said="ROM's and loader's records"
        )
        (app,) = (ecu for ecu in json.loads(told)[0]["ecus"] if ecu["ecu_id"] == f"{SERIAL}/{Slot.APP}")
        measured: dict[str, Any] = app["measured"]
        return measured

    def _old_image(self) -> None:
        self._order("loader-1.3.0", "app-1.3.0")
        self._attacker.by_update("the old image 1.3.0, ordered again", Code.TARGET_COUNTER)
        old = {Slot.LOADER: "loader-1.3.0.img", Slot.APP: "app-1.3.0.img"}
        self._intruder.sends("the old image 1.3.0, past the controller", old, Code.IMAGE_COUNTER)

    def _failing_update(self) -> None:
        self._sign("app-1.5.0.srec", Slot.APP, "1.5.0", 7)
        self._stage.run(Actor.MAKER, "publish app 1.5.0", "repo", "publish", "app-1.5.0.img")
        self._order("loader-1.4.0", "app-1.5.0")
        self._attacker.flips_a_bit_on_the_server("app-1.5.0.img")
        self._attacker.by_update(
            "an authentic update that counts 14 cells where 12 are",
            Code.UPDATE_FELL_BACK,
            allowed="the other bank holds the failed trial",
        )

    def _forgeries(self) -> None:
        good = {Slot.LOADER: "loader-1.4.0.img", Slot.APP: "app-1.4.0.img"}
        self._intruder.sends_with_a_bit_flipped("one bit of app 1.4.0 flipped behind the controller", good)
        self._attacker.signs_with_own_key("build/app-1.4.0.elf", HARDWARE, "forged.img")
        forged = {**good, Slot.APP: "forged.img"}
        attack = "an image signed by a wrong key, past the controller"
        self._intruder.sends(attack, forged, Code.IMAGE_KEY_UNKNOWN)
        self._sign("app-1.4.0.bin", Slot.APP, "1.4.0", 7, hardware=OTHER_HARDWARE, output="app-18s.img")
        self._stage.run(Actor.MAKER, "publish it for its own hardware", "repo", "publish", "app-18s.img")
        self._attacker.by_command(
            f"an image for {OTHER_HARDWARE}, ordered for this pack",
            Code.TARGET_HARDWARE,
            "Director",
            *("repo", "assign", PACK, f"{OTHER_HARDWARE}/app-1.4.0.img"),
        )
        foreign = {**good, Slot.APP: "app-18s.img"}
        attack = f"an image for {OTHER_HARDWARE}, past the controller"
        self._intruder.sends(attack, foreign, Code.IMAGE_HARDWARE)
        self._intruder.updates_while_driving()

    def _no_certificate(self) -> None:
        self._attacker.asks_without_certificate()
        token = self._stage.run(
            Actor.SERVER, "a token for a second pack", "server", "enrol-token", SECOND_PACK, said="stolen"
        )
        (self._stage.folder / "token-2").write_text(token.split()[0])
        self._attacker.copies_the_tpm("pack", "copy")
        for attack, options in (
            ("a second pack with a copy of the first TPM", ("--state", "copy")),
            ("a stolen token without a TPM", ("--state", "none", "--software-identity")),
        ):
            enrol = ("device", "enrol", *options, "--factory", "factory.json", "--vehicle", SECOND_PACK)
            command = (*enrol, "--token-file", "token-2", "--module", MODULE)
            self._attacker.by_command(attack, Code.ENROL_IDENTITY, "server", *command)

    def _cable(self) -> None:
        self._intruder.writes_flash_by_cable("the running app overwritten with the programming cable")
        self._intruder.reads_flash_by_cable("the firmware read out with the programming cable")
        self._intruder.burns_fuses_by_cable("the firmware key burned as revoked with the programming cable")

    def _power_cut(self) -> None:
        """Of an encrypted release: its content key is wrapped for the module when it is ordered."""
        self._release("1.4.1", 7, "loader-1.4.0.elf", "app-1.4.0.elf", "--encrypt")
        self._stage.run(
            Actor.ATTACKER,
            "order a power cut in the 40th flash operation",
            *("module", "power-cut", "--state", MODULE, "--operation", "40", "--torn", "half"),
        )
        self._attacker.by_update(
            "power cut in mid-flash", Code.POWER_CUT, allowed="the other bank is half written"
        )
        self._poll("the next poll starts over and completes the update")
        after = self._attacker.state()
        if "1.4.1" not in after.running:
            raise Unexpected("update after the power cut", "1.4.1 running", str(after))
        self._controller_saw_no_plaintext("app-1.4.0.bin")

    def _controller_saw_no_plaintext(self, firmware: str) -> None:
        folder = self._stage.folder
        code = (folder / "build" / firmware).read_bytes()[1024:1088]
        kept = [path for path in (folder / "pack").rglob("*") if path.is_file()]
        if any(code in path.read_bytes() for path in kept):
            raise Unexpected("encrypted update", "no plaintext in the pack controller", "some")
        said = "encrypted; neither server nor controller can open it"
        self._stage.journal.facts.append(("release 1.4.1", said))

    def _damage(self) -> None:
        """The bank of the last update goes, then the one before it; what is left is the signed way in."""
        runs = self._attacker.state().running
        self._intruder.flips_a_bit_in_flash("one bit of app 1.4.1 flipped in the flash", "1.4.0 in bank b")
        self._intruder.flips_a_bit_in_flash("one bit of app 1.4.0 flipped in the flash as well", NOTHING)
        self._poll("the next poll: the ROM's recovery takes the signed release")
        after = self._attacker.state()
        if "1.4.1" not in after.running or after.running == NOTHING:
            raise Unexpected("recovery", runs, str(after))
        self._stage.journal.facts.append(("after recovery", after.running))

    def _rotation(self) -> None:
        self._release("1.4.2", 7, "loader-1.4.0.elf", "app-1.4.0.elf", "--key", SECOND)
        self._poll("an update signed by the second slot's key")
        file = "firmware.revocation"
        self._stage.run(
            *(Actor.MAKER, "revoke the first key with the root key", "keys", "revoke-slot"),
            *("firmware.pem", "-o", file),
        )
        self._stage.run(
            *(Actor.CONTROLLER, "hand the revocation over", "module", "revoke"),
            *("--state", MODULE, "--revocation", file),
        )
        self._stage.run(Actor.MODULE, "the next boot burns the fuse", "module", "reset", "--state", MODULE)
        told = self._stage.run(
            *(Actor.MODULE, "ask for the fuses", "module", "status", "--state", MODULE, "--json"),
            said="slot key 0 is revoked, for good",
        )
        if json.loads(told)["revoked"] != 1:
            raise Unexpected("revocation", "slot key 0 revoked", f"{json.loads(told)['revoked']:#b}")
        self._order("loader-1.4.1", "app-1.4.1")
        self._attacker.by_update("a release of the revoked key, ordered", Code.IMAGE_KEY_REVOKED)
        old = {Slot.LOADER: "loader-1.4.0.img", Slot.APP: "app-1.4.0.img"}
        attack = "a release of the revoked key, past the controller"
        self._intruder.sends(attack, old, Code.IMAGE_KEY_REVOKED)
        self._order("loader-1.4.2", "app-1.4.2")
        self._stage.journal.facts.append(("firmware key", "ECDSA P-256 revoked, RSA-3072 in force"))

    def _tamper(self) -> None:
        self._intruder.opens_the_case("the case of the module opened")
        before, attack = self._attacker.state(), "a module without its secret vouches for itself"
        self._poll("the pack reports it")
        proof = self._measured(attack)
        if proof["code"] != Code.BOOT_RECORD:
            raise Unexpected(attack, Code.BOOT_RECORD, proof["code"])
        said = Said(proof["code"], "", proof["expected"], proof["found"], "")
        self._attacker.note(attack, "server", said, before)
        self._stage.journal.facts.append(("at the end", "secret destroyed, contactors open, pack watched"))

    def _release(self, version: str, counter: int, loader: str, app: str, *how: str) -> None:
        """Sign, publish and order both images; `how` are further options of `image sign`."""
        self._sign(loader, Slot.LOADER, version, counter, *how)
        self._sign(app, Slot.APP, version, counter, *how)
        images = (f"loader-{version}.img", f"app-{version}.img")
        self._stage.run(Actor.MAKER, f"publish {version}", "repo", "publish", *images)
        self._order(f"loader-{version}", f"app-{version}")

    def _sign(
        self,
        firmware: str,
        slot: Slot,
        version: str,
        counter: int,
        *how: str,
        hardware: str = HARDWARE,
        output: str = "",
    ) -> None:
        self._stage.run(
            Actor.MAKER,
            f"sign{' and encrypt' if '--encrypt' in how else ''} {firmware} as {version}",
            *("image", "sign", f"build/{firmware}", "--stage", slot, "--version", version),
            *("--counter", f"{counter}", "--hardware", hardware, "-o", output or f"{slot}-{version}.img"),
            *how,
        )

    def _order(self, *images: str) -> None:
        targets = [f"{HARDWARE}/{image}.img" for image in images]
        self._stage.run(
            Actor.MAKER, f"order {' and '.join(images)} for {PACK}", "repo", "assign", PACK, *targets
        )

    def _poll(self, name: str) -> None:
        self._stage.run(Actor.CONTROLLER, name, "device", "run", "--state", "pack", "--once", last=True)
