//! Peers with an RSA certificate, as GStreamer and small devices have one. `dimpl` 0.9 knows ECDSA alone: it asks clients
//! for nothing else, and checks nothing else.
//!
//! It lets its cryptography be replaced, and that is enough. [`Verifier`] checks what RSA keys sign. And the server's
//! CertificateRequest (RFC 5246 §7.4.4), which `dimpl` writes, names RSA with SHA-256 where it named ECDSA with SHA-384,
//! which nobody needs who knows ECDSA with SHA-256: a P-384 key signs that as well. [`ask`] changes the datagram on its
//! way out; as both sides hash what was said, [`Transcript`] and [`Verifier`] hash the message as it was sent.
//!
//! All this is of the server's side. As a client we would have to take an RSA key exchange, which `dimpl` does not offer.

use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA384, RsaParameters,
    UnparsedPublicKey,
};
use dimpl::CryptoError;
use dimpl::crypto::aws_lc_rs::default_provider;
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, SignatureAlgorithm,
    SignatureVerifier,
};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Content type of a handshake record (RFC 6347 §4.1).
const HANDSHAKE: u8 = 22;
const RECORD_HEADER: usize = 13;
/// Header of a handshake message: type, length, number, and which part of it this is (RFC 6347 §4.2.2).
const MESSAGE_HEADER: usize = 12;
const CERTIFICATE_REQUEST: u8 = 13;
/// Hash and signature (RFC 5246 §7.4.1.4.1).
const ECDSA_SHA256: [u8; 2] = [4, 3];
const ECDSA_SHA384: [u8; 2] = [5, 3];
const RSA_SHA256: [u8; 2] = [4, 1];

/// The cryptography of a server that takes RSA certificates too.
pub(in crate::media) fn provider() -> CryptoProvider {
    CryptoProvider {
        signature_verification: &Verifier,
        hash_provider: &Transcript,
        ..default_provider()
    }
}

/// Changes the CertificateRequest in a datagram of a server, if there is one.
pub(super) fn ask(datagram: &mut [u8]) {
    let mut rest = datagram;
    while let Some((header, behind)) = rest.split_first_chunk_mut::<RECORD_HEADER>() {
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let Some((record, behind)) = behind.split_at_mut_checked(length) else {
            return;
        };
        // Records of a later epoch are encrypted.
        if header[0] == HANDSHAKE && header[3..5] == [0, 0] {
            amend(record);
        }
        rest = behind;
    }
}

/// The same in a row of whole handshake messages. Anything else is left as it is.
fn amend(messages: &mut [u8]) {
    let mut rest = messages;
    while let Some((header, behind)) = rest.split_first_chunk_mut::<MESSAGE_HEADER>() {
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_whole = header[1] == 0 && header[6..9] == [0; 3] && header[9..12] == header[1..4];
        let Some((body, behind)) = behind.split_at_mut_checked(length).filter(|_| is_whole) else {
            return;
        };
        if header[0] == CERTIFICATE_REQUEST {
            if algorithms(body).any(|pair| *pair == ECDSA_SHA256)
                && let Some(pair) = algorithms(body).find(|pair| **pair == ECDSA_SHA384)
            {
                *pair = RSA_SHA256;
            }
            return;
        }
        rest = behind;
    }
}

/// The list of signature algorithms in a CertificateRequest: behind that of the certificates' types.
fn algorithms(body: &mut [u8]) -> impl Iterator<Item = &mut [u8; 2]> {
    let types = body.first().map_or(0, |count| usize::from(*count));
    let list = body.get_mut(1 + types..).unwrap_or_default();
    let length = list
        .first_chunk()
        .map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
    let list = list.get_mut(2..2 + length).unwrap_or_default();
    list.as_chunks_mut().0.iter_mut()
}

fn amended(messages: &[u8]) -> Vec<u8> {
    let mut messages = messages.to_vec();
    amend(&mut messages);
    messages
}

/// Hashes the handshake as the peer saw it. `dimpl` gives all of it at once.
#[derive(Debug)]
struct Transcript;

impl HashProvider for Transcript {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let provider = default_provider().hash_provider;
        Box::new(TranscriptHash(provider.create_hash(algorithm)))
    }
}

#[derive(Debug)]
struct TranscriptHash(Box<dyn HashContext>);

impl HashContext for TranscriptHash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(&amended(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

/// Checks the client's CertificateVerify (RFC 5246 §7.4.8).
#[derive(Debug)]
struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let data = amended(data);
        if algorithm != SignatureAlgorithm::RSA {
            let ecdsa = default_provider().signature_verification;
            return ecdsa.verify_signature(certificate, &data, signature, hash, algorithm);
        }
        let parameters = parameters(hash)?;
        let certificate =
            Certificate::from_der(certificate).map_err(|_| CryptoError::CertificateParseFailed)?;
        let key = certificate
            .tbs_certificate()
            .subject_public_key_info()
            .subject_public_key
            .as_bytes()
            .ok_or(CryptoError::InvalidSubjectPublicKey)?;
        UnparsedPublicKey::new(parameters, key)
            .verify(&data, signature)
            .map_err(|_| CryptoError::InvalidSignatureFormat)
    }
}

/// Devices sign with the hash of the cipher suite, whatever was asked for, and some have short keys: the fingerprint in
/// the SDP says which key it is, and the key serves for one call.
fn parameters(hash: HashAlgorithm) -> Result<&'static RsaParameters, CryptoError> {
    match hash {
        HashAlgorithm::SHA256 => Ok(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
        HashAlgorithm::SHA384 => Ok(&RSA_PKCS1_2048_8192_SHA384),
        _ => Err(CryptoError::UnsupportedSignaturePair {
            signature: SignatureAlgorithm::RSA,
            hash,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::aws_lc_rs::encoding::AsDer;
    use ::aws_lc_rs::rand::SystemRandom;
    use ::aws_lc_rs::rsa::{KeyPair, KeySize};
    use ::aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RsaEncoding};
    use rcgen::{CertificateParams, PKCS_RSA_SHA256};

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = [0, 0, body.len() as u8];
        [&[kind][..], &length, &[0, 1], &[0; 3], &length, body].concat()
    }

    fn record(epoch: u8, body: &[u8]) -> Vec<u8> {
        let header = [HANDSHAKE, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 2, 0];
        [&header[..], &[body.len() as u8], body].concat()
    }

    fn request(algorithms: &[[u8; 2]]) -> Vec<u8> {
        let list = algorithms.concat();
        let body = [&[1, 64, 0, list.len() as u8][..], &list, &[0, 0]].concat();
        message(CERTIFICATE_REQUEST, &body)
    }

    #[test]
    fn a_server_asks_for_rsa_too() {
        let (before, after) = (message(2, &[5, 3, 5, 3]), message(14, &[]));
        let flight = |request: Vec<u8>| {
            let together = [before.clone(), request].concat();
            [record(0, &together), record(0, &after)].concat()
        };
        let mut datagram = flight(request(&[ECDSA_SHA256, ECDSA_SHA384]));
        ask(&mut datagram);
        assert_eq!(datagram, flight(request(&[ECDSA_SHA256, RSA_SHA256])));

        let said = [before.clone(), request(&[ECDSA_SHA256, ECDSA_SHA384])].concat();
        let sent = [before.clone(), request(&[ECDSA_SHA256, RSA_SHA256])].concat();
        assert_eq!(amended(&said), sent, "both sides hash the same");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let whole = request(&[ECDSA_SHA256, ECDSA_SHA384]);
        let mut part = whole.clone();
        part[8] = 1;
        let unsound = [
            record(1, &whole),
            record(0, &request(&[ECDSA_SHA256])),
            record(0, &request(&[ECDSA_SHA384])),
            record(0, &message(2, &whole)),
            record(0, &part),
            record(0, &whole[..whole.len() - 1]),
            record(0, &message(CERTIFICATE_REQUEST, &[])),
            record(0, &message(CERTIFICATE_REQUEST, &[200, 5, 3])),
            record(0, &message(CERTIFICATE_REQUEST, &[0, 0, 9, 5, 3])),
            record(0, &whole)[..20].to_vec(),
            vec![HANDSHAKE],
            Vec::new(),
        ];
        for datagram in unsound {
            let mut after = datagram.clone();
            ask(&mut after);
            assert_eq!(after, datagram);
        }
    }

    /// A key, and a certificate of it.
    fn rsa() -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: ::aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
        let pkcs8 = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &pkcs8.as_ref().to_vec().into(),
            &PKCS_RSA_SHA256,
        )
        .unwrap();
        let certificate = CertificateParams::default().self_signed(&pkcs8).unwrap();
        (key, certificate.der().to_vec())
    }

    fn sign(key: &KeyPair, encoding: &'static dyn RsaEncoding, data: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(encoding, &SystemRandom::new(), data, &mut signature)
            .unwrap();
        signature
    }

    #[test]
    fn what_an_rsa_key_signs_is_checked_against_its_certificate() {
        let (key, certificate) = rsa();
        let (_, another) = rsa();
        let transcript = request(&[ECDSA_SHA256, ECDSA_SHA384]);
        let seen = amended(&transcript);
        let verify = |certificate: &[u8], data: &[u8], signature: &[u8], hash| {
            Verifier.verify_signature(certificate, data, signature, hash, SignatureAlgorithm::RSA)
        };
        let hashes: [(HashAlgorithm, &'static dyn RsaEncoding); 2] = [
            (HashAlgorithm::SHA256, &RSA_PKCS1_SHA256),
            (HashAlgorithm::SHA384, &RSA_PKCS1_SHA384),
        ];
        for (hash, encoding) in hashes {
            let signature = sign(&key, encoding, &seen);
            assert_eq!(verify(&certificate, &transcript, &signature, hash), Ok(()));
            let mut wrong = signature.clone();
            wrong[7] ^= 1;
            let said = sign(&key, encoding, &transcript);
            for (certificate, data, signature) in [
                (&another, &transcript, &signature),
                (&certificate, &b"another transcript".to_vec(), &signature),
                (&certificate, &transcript, &wrong),
                (&certificate, &transcript, &said),
                (&certificate, &transcript, &Vec::new()),
                (&Vec::new(), &transcript, &signature),
            ] {
                assert!(verify(certificate, data, signature, hash).is_err());
            }
        }
        let sha1 = verify(&certificate, &transcript, &[], HashAlgorithm::SHA1);
        assert!(sha1.is_err(), "nobody may sign with SHA-1");
    }

    #[test]
    fn an_rsa_signature_does_not_pass_with_another_kind_of_key() {
        let (key, _) = rsa();
        let signature = sign(&key, &RSA_PKCS1_SHA256, b"data");
        let ecdsa = crate::media::certificate::Certificate::generate();
        let verdict = Verifier.verify_signature(
            &ecdsa.der().certificate,
            b"data",
            &signature,
            HashAlgorithm::SHA256,
            SignatureAlgorithm::RSA,
        );
        assert!(verdict.is_err());
    }
}
