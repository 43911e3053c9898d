//! VP9 payloads (RFC 9628): the descriptor.

use super::CodecFault;

/// A payload descriptor (RFC 9628 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vp9Descriptor {
    /// Bytes it took.
    pub len: u16,
    /// I: picture id, in the low 15 or 7 bits.
    pub picture_id: Option<u16>,
    /// P: predicted from earlier pictures.
    pub predicted: bool,
    /// L: layer indices are present.
    pub has_layers: bool,
    /// F: flexible mode.
    pub flexible: bool,
    /// B: first packet of a layer frame.
    pub begins_frame: bool,
    /// E: last packet of a layer frame.
    pub ends_frame: bool,
    /// Z: not a reference for upper spatial layers.
    pub not_spatial_reference: bool,
    /// TID.
    pub temporal: u8,
    /// SID.
    pub spatial: u8,
    /// U: temporal layers above can be begun here.
    pub switching_up: bool,
    /// D: depends on the spatial layer below.
    pub spatially_predicted: bool,
    /// TL0PICIDX, outside of flexible mode.
    pub tl0_picture_index: Option<u8>,
    /// V: what the scalability structure says.
    pub structure: Option<Structure>,
}

/// The part of a scalability structure that is of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Structure {
    /// Spatial layers, 1–8.
    pub spatial_layers: u8,
    /// Width and height of each, lowest first; zeros when not told.
    pub sizes: [(u16, u16); 8],
}

impl Vp9Descriptor {
    /// Reads the descriptor at the start of a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecFault> {
        let mut at = 0;
        let mut byte = || {
            at += 1;
            payload.get(at - 1).copied().ok_or(CodecFault::Truncated)
        };
        let first = byte()?;
        let has = |bit: u8| first & bit != 0;
        let mut descriptor = Self {
            predicted: has(0x40),
            has_layers: has(0x20),
            flexible: has(0x10),
            begins_frame: has(0x08),
            ends_frame: has(0x04),
            not_spatial_reference: has(0x01),
            ..Self::default()
        };
        if has(0x80) {
            let high = byte()?;
            descriptor.picture_id = Some(if high & 0x80 == 0 {
                u16::from(high)
            } else {
                u16::from_be_bytes([high & 0x7f, byte()?])
            });
        }
        if descriptor.has_layers {
            let layers = byte()?;
            descriptor.temporal = layers >> 5;
            descriptor.switching_up = layers & 0x10 != 0;
            descriptor.spatial = (layers >> 1) & 0x07;
            descriptor.spatially_predicted = layers & 0x01 != 0;
            if !descriptor.flexible {
                descriptor.tl0_picture_index = Some(byte()?);
            }
        }
        if descriptor.flexible && descriptor.predicted {
            // At most three reference differences.
            let mut differences = 0;
            while byte()? & 1 != 0 {
                differences += 1;
                if differences == 3 {
                    return Err(CodecFault::Malformed);
                }
            }
        }
        if has(0x02) {
            let head = byte()?;
            let mut structure = Structure {
                spatial_layers: (head >> 5) + 1,
                ..Structure::default()
            };
            if head & 0x10 != 0 {
                for size in structure
                    .sizes
                    .iter_mut()
                    .take(usize::from(structure.spatial_layers))
                {
                    let width = u16::from_be_bytes([byte()?, byte()?]);
                    *size = (width, u16::from_be_bytes([byte()?, byte()?]));
                }
            }
            if head & 0x08 != 0 {
                for _ in 0..byte()? {
                    for _ in 0..(byte()? >> 2) & 3 {
                        byte()?;
                    }
                }
            }
            descriptor.structure = Some(structure);
        }
        descriptor.len = at as u16;
        Ok(descriptor)
    }

    /// The packet begins a picture that depends on no other.
    pub fn is_key_frame(&self) -> bool {
        self.begins_frame && !self.predicted && self.spatial == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_with_a_structure_is_read() {
        // I, L, B, V; 15-bit id; TID 0 SID 0; TL0PICIDX 9; two layers with sizes and a group of one.
        let payload = [
            0xaa, 0x92, 0x34, 0x00, 9, 0x38, 1, 0x40, 0, 0xb4, 2, 0x80, 1, 0x68, 1, 0x04, 1, 0xfe,
        ];
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.picture_id, Some(0x1234));
        assert_eq!(descriptor.tl0_picture_index, Some(9));
        assert_eq!(usize::from(descriptor.len), payload.len() - 1);
        assert!(descriptor.is_key_frame() && !descriptor.ends_frame);
        let structure = descriptor.structure.unwrap();
        assert_eq!(structure.spatial_layers, 2);
        assert_eq!(structure.sizes[..2], [(320, 180), (640, 360)]);
        for len in 0..payload.len() - 1 {
            assert_eq!(
                Vp9Descriptor::parse(&payload[..len]),
                Err(CodecFault::Truncated),
                "{len}"
            );
        }
    }

    #[test]
    fn upper_layers_of_a_key_picture_are_no_beginning() {
        // L, F, B, E; TID 2, U, SID 1, D.
        let descriptor = Vp9Descriptor::parse(&[0x3c, 0x53, 0]).unwrap();
        assert_eq!((descriptor.temporal, descriptor.spatial), (2, 1));
        assert!(descriptor.switching_up && descriptor.spatially_predicted);
        assert!(descriptor.ends_frame && !descriptor.is_key_frame());
        assert_eq!(descriptor.len, 2);
    }

    #[test]
    fn flexible_mode_has_at_most_three_differences() {
        assert_eq!(Vp9Descriptor::parse(&[0x50, 3, 5, 2]).unwrap().len, 4);
        assert_eq!(
            Vp9Descriptor::parse(&[0x50, 3, 5, 3, 2]),
            Err(CodecFault::Malformed)
        );
    }

    #[test]
    fn a_predicted_frame_is_no_key_frame() {
        assert!(!Vp9Descriptor::parse(&[0x48, 0]).unwrap().is_key_frame());
        assert!(Vp9Descriptor::parse(&[0x08, 0]).unwrap().is_key_frame());
    }
}
