//! Our private key, parsed once for all handshakes. `dimpl` 0.9 has its cryptography parse the key for each, and as
//! parsing works the public half out again, that costs as much as the signature.

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use dimpl::crypto::{Buf, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey};
use dimpl::{CryptoError, CryptoOperation};
use std::sync::Arc;

/// A P-256 key. It is what every session signs with, whatever key `dimpl` was given.
#[derive(Debug)]
pub(in crate::media) struct OwnKey(Arc<EcdsaKeyPair>);

impl OwnKey {
    /// From PKCS #8, DER.
    pub(in crate::media) fn parse(pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)
            .map(|pair| Self(Arc::new(pair)))
    }
}

impl KeyProvider for OwnKey {
    fn load_private_key(&self, _: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        Ok(Box::new(Signer(Arc::clone(&self.0))))
    }
}

#[derive(Debug)]
struct Signer(Arc<EcdsaKeyPair>);

impl SigningKey for Signer {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        if hash != self.hash_algorithm() {
            return Err(CryptoError::SigningKeyHashMismatch {
                key_hash: self.hash_algorithm(),
                requested: hash,
            });
        }
        let signature = self
            .0
            .sign(&SystemRandom::new(), data)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}
