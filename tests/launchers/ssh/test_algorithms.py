"""What is offered, and what is said where nothing fits."""

from attrs import evolve

from twisted_dist.launchers.ssh.algorithms import (
    CIPHERS,
    HOST_KEYS,
    KEY_EXCHANGES,
    MACS,
    Offer,
    host_key_order,
    nothing_in_common,
    type_name,
)

OURS = Offer(KEY_EXCHANGES, HOST_KEYS, CIPHERS, MACS, CIPHERS, MACS)


def test_what_is_offered():
    """There is something of each, and nothing weak."""
    for names in (CIPHERS, MACS, KEY_EXCHANGES, HOST_KEYS):
        assert names
        for weak in (b"sha1", b"md5", b"cbc", b"3des", b"ssh-rsa", b"ssh-dss"):
            assert not any(weak in each for each in names)


def test_order():
    """`host_key_order`: known types come first, each algorithm once, unknown types not at all."""
    assert host_key_order([]) == list(HOST_KEYS)
    ordered = host_key_order([b"ssh-rsa", b"ssh-rsa", b"ssh-dss", b"nonsense"])
    assert ordered[:2] == [b"rsa-sha2-512", b"rsa-sha2-256"]
    assert sorted(ordered) == sorted(HOST_KEYS)
    assert host_key_order([], [b"ssh-rsa"]) == list(HOST_KEYS[:4])


def test_nothing_in_common():
    """`nothing_in_common` names all that is missing, once, by both sides' names."""
    assert nothing_in_common(OURS, HOST_KEYS) == ""
    strict = evolve(OURS, ciphers=[b"gcm"], ciphers_back=[b"gcm"], macs=[b"etm", b"ext-info-s"])
    said = nothing_in_common(strict, HOST_KEYS)
    assert said.count("no common cipher: it offers gcm; this client has aes256-ctr") == 1
    assert "no common MAC: it offers etm; this client has hmac-sha2-512" in said


def test_type_name():
    """`type_name` is what ssh shows."""
    names = [type_name(each) for each in (b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ssh-rsa")]
    assert names == ["ED25519", "ECDSA", "RSA"]
