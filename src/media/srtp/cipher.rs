//! Session keys and the two ciphers of SRTP: AES-GCM (RFC 7714) and AES counter mode with HMAC-SHA1 (RFC 3711).

use super::Profile;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};

/// Bytes of an HMAC-SHA1-80 tag.
const SHORT_TAG: usize = 10;

/// The cipher of RTP or of RTCP in one direction, with its session keys. Boxed: the key schedules are large and only
/// exist once a handshake is done.
pub(super) enum Cipher {
    Gcm(Box<Gcm>),
    Cm(Box<Cm>),
}

/// AES-GCM with its salt.
pub(super) struct Gcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

/// AES-CM with HMAC-SHA1-80.
pub(super) struct Cm {
    key: EncryptingKey,
    mac: hmac::Key,
    salt: [u8; 14],
}

/// An IV: 12 bytes are used by GCM, 16 by CM.
pub(super) type Iv = [u8; 16];

impl Cipher {
    /// Session keys from a master key and salt; `label` is 0 for RTP and 3 for RTCP (RFC 3711 §4.3.2).
    pub(super) fn derive(
        profile: Profile,
        master: &[u8],
        master_salt: &[u8],
        label: u8,
    ) -> Option<Self> {
        let mut key = [0; 32];
        match profile {
            Profile::Gcm128 | Profile::Gcm256 => {
                let key = &mut key[..master.len()];
                let mut salt = [0; 12];
                expand(master, master_salt, label, key)?;
                expand(master, master_salt, label + 2, &mut salt)?;
                Self::gcm(key, salt)
            }
            Profile::Cm128 => {
                let key = &mut key[..16];
                let (mut mac, mut salt) = ([0; 20], [0; 14]);
                expand(master, master_salt, label, key)?;
                expand(master, master_salt, label + 1, &mut mac)?;
                expand(master, master_salt, label + 2, &mut salt)?;
                Some(Self::Cm(Box::new(Cm {
                    key: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key).ok()?).ok()?,
                    mac: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &mac),
                    salt,
                })))
            }
        }
    }

    pub(super) fn gcm(key: &[u8], salt: [u8; 12]) -> Option<Self> {
        let algorithm = if key.len() == 32 {
            &AES_256_GCM
        } else {
            &AES_128_GCM
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self::Gcm(Box::new(Gcm { key, salt })))
    }

    /// RFC 7714 §8.1, RFC 3711 §4.1.1.
    pub(super) fn rtp_iv(&self, ssrc: u32, index: u64) -> Iv {
        let index = index.to_be_bytes();
        match self {
            Self::Gcm(gcm) => mix(&gcm.salt, 2, ssrc, 6, &index[2..]),
            Self::Cm(cm) => mix(&cm.salt, 4, ssrc, 8, &index[2..]),
        }
    }

    /// RFC 7714 §9.1, RFC 3711 §4.1.1.
    pub(super) fn rtcp_iv(&self, ssrc: u32, index: u32) -> Iv {
        let index = index.to_be_bytes();
        match self {
            Self::Gcm(gcm) => mix(&gcm.salt, 2, ssrc, 8, &index),
            Self::Cm(cm) => mix(&cm.salt, 4, ssrc, 10, &index),
        }
    }
}

impl Gcm {
    pub(super) fn seal(&self, iv: &Iv, aad: &[u8], data: &mut [u8], tag: &mut [u8]) -> bool {
        match self
            .key
            .seal_in_place_separate_tag(nonce(iv), Aad::from(aad), data)
        {
            Ok(made) => {
                tag.copy_from_slice(made.as_ref());
                true
            }
            Err(_) => false,
        }
    }

    /// `data` is ciphertext and tag.
    pub(super) fn open(&self, iv: &Iv, aad: &[u8], data: &mut [u8]) -> bool {
        self.key
            .open_in_place(nonce(iv), Aad::from(aad), data)
            .is_ok()
    }
}

impl Cm {
    /// Encrypts or decrypts: counter mode is its own inverse.
    pub(super) fn crypt(&self, iv: &Iv, data: &mut [u8]) -> bool {
        let context = EncryptionContext::Iv128(FixedLength::from(*iv));
        self.key.less_safe_encrypt(data, context).is_ok()
    }

    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; SHORT_TAG] {
        let mut context = hmac::Context::with_key(&self.mac);
        for part in parts {
            context.update(part);
        }
        let mut tag = [0; SHORT_TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..SHORT_TAG]);
        tag
    }

    pub(super) fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.tag(parts), tag).is_ok()
    }
}

fn nonce(iv: &Iv) -> Nonce {
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&iv[..12]);
    Nonce::assume_unique_for_key(nonce)
}

/// The salt with SSRC and index mixed in at their places.
fn mix(salt: &[u8], ssrc_at: usize, ssrc: u32, index_at: usize, index: &[u8]) -> Iv {
    let mut iv = [0; 16];
    iv[..salt.len()].copy_from_slice(salt);
    for (byte, mixed) in iv[ssrc_at..].iter_mut().zip(ssrc.to_be_bytes()) {
        *byte ^= mixed;
    }
    for (byte, mixed) in iv[index_at..].iter_mut().zip(index) {
        *byte ^= mixed;
    }
    iv
}

/// The key derivation function of RFC 3711 §4.3.3 with a key derivation rate of zero: AES counter mode over zeros.
/// A 96-bit salt is padded on the right (RFC 7714 §11).
pub(super) fn expand(master: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Option<()> {
    let mut iv = [0; 16];
    iv.get_mut(..salt.len())?.copy_from_slice(salt);
    iv[7] ^= label;
    let algorithm = if master.len() == 32 {
        &AES_256
    } else {
        &AES_128
    };
    let key = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, master).ok()?).ok()?;
    out.fill(0);
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    key.less_safe_encrypt(out, context).ok()?;
    Some(())
}
