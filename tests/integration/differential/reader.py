"""Reads pairs with the package cryptography.

A line of standard input is a pair: the certificate and its private key, each in base64, with a space between them. A line of
standard output answers it: why the pair is refused, or nothing.
"""

import base64
import sys
import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

MESSAGE = b"certkeep"


def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_certificate(text):
    certificate = x509.load_pem_x509_certificates(text)[0]
    # Fields are decoded when they are asked for.
    for field in ("version", "serial_number", "issuer", "subject", "extensions", "not_valid_before_utc", "not_valid_after_utc"):
        getattr(certificate, field)
    return certificate.public_key()


def sign_and_verify(key):
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        scheme = (padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        scheme = (ec.ECDSA(hashes.SHA256()),)
    else:
        scheme = ()
    public.verify(key.sign(MESSAGE, *scheme), MESSAGE, *scheme)


def refusal(certificate, private_key):
    what = "certificate"
    try:
        of_certificate = read_certificate(certificate)
        what = "private key"
        key = serialization.load_pem_private_key(private_key, password=None)
        what = "pair"
        if spki(key.public_key()) != spki(of_certificate):
            return "pair: the public keys differ"
        sign_and_verify(key)
    # The package's parser may panic, which is no Exception.
    except BaseException as error:
        return " ".join(f"{what}: {type(error).__name__}: {error}".split())[:200]
    return ""


def main():
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        certificate, private_key = (base64.b64decode(field) for field in line.rstrip("\n").split(" "))
        print(refusal(certificate, private_key), flush=True)


main()
