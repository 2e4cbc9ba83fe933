"""Composition root: the one place that knows which adapter stands behind which port, by area."""

from cellward.adapters.files import DirectoryStore, read_file, write_file
from cellward.bootstrap.device import device_lock, device_store, tpm, tpm_authorities, transport
from cellward.bootstrap.evidence import checkout, tools
from cellward.bootstrap.gates import configuration_pages, gate, release_gate, released
from cellward.bootstrap.keys import (
    default_token,
    firmware_keys,
    install_register,
    key_register,
    key_store,
    keyring,
    make_softkey,
    register_versions,
    release_keys,
    role_signer,
    signer,
)
from cellward.bootstrap.log import log_of, logged, signing_log
from cellward.bootstrap.maker import (
    authorities,
    content_keys,
    director,
    image_repository,
    measured,
    register,
    registration,
    registry,
    repositories,
    wrap_for,
)
from cellward.bootstrap.module import connect_module, module_verifier, registration_file, running_module
from cellward.bootstrap.packs import agent_digest, know_agent, know_manufacturers, read_manufacturers
from cellward.bootstrap.signers import calibration_signer, firmware_signer, policy_signer, release_signer
from cellward.bootstrap.vault import print_secret, read_secret, vault_place

__all__ = [
    "DirectoryStore",
    "agent_digest",
    "authorities",
    "calibration_signer",
    "checkout",
    "configuration_pages",
    "connect_module",
    "content_keys",
    "default_token",
    "device_lock",
    "device_store",
    "director",
    "firmware_keys",
    "firmware_signer",
    "gate",
    "image_repository",
    "install_register",
    "key_register",
    "key_store",
    "keyring",
    "know_agent",
    "know_manufacturers",
    "log_of",
    "logged",
    "make_softkey",
    "measured",
    "module_verifier",
    "policy_signer",
    "print_secret",
    "read_file",
    "read_manufacturers",
    "read_secret",
    "register",
    "register_versions",
    "registration",
    "registration_file",
    "registry",
    "release_gate",
    "release_keys",
    "release_signer",
    "released",
    "repositories",
    "role_signer",
    "running_module",
    "signer",
    "signing_log",
    "tools",
    "tpm",
    "tpm_authorities",
    "transport",
    "vault_place",
    "wrap_for",
    "write_file",
]
