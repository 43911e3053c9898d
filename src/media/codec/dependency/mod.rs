//! The AV1 dependency descriptor (RTP Payload Format For AV1 1.0, appendix A): which frames a frame needs, which
//! decode targets it is part of, and which targets are being sent. Used by AV1 and by SVC streams of VP9.
//!
//! A [`Tracker`] per received stream keeps the structure that key frames bring; [`rewrite`] makes a subscriber's copy
//! of a descriptor, with other active targets and another frame number, bit by bit out of the received one.

mod bits;

use super::CodecFault;
use bits::{BitReader, BitWriter};

/// Most decode targets that a descriptor can speak of.
pub const MAX_TARGETS: usize = 32;
/// Most frame differences that we keep of one frame; AV1 has 8 reference frames, of which a frame uses 7.
pub const MAX_DIFFERENCES: usize = 8;
const MAX_TEMPLATES: usize = 64;
const MAX_SPATIAL: usize = 4;
const MAX_TEMPORAL: u8 = 7;

/// What a frame is to a decode target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indication {
    /// Not part of it.
    NotPresent,
    /// Part of it, and nothing there depends on it.
    Discardable,
    /// Part of it, and all that follows decodes from here on.
    Switch,
    /// Part of it.
    Required,
}

/// [`Indication`]s of one frame or template, for each decode target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Indications {
    bits: u64,
    len: u8,
}

impl Indications {
    /// For one decode target; beyond the last: not present.
    pub fn get(&self, target: usize) -> Indication {
        if target >= usize::from(self.len) {
            return Indication::NotPresent;
        }
        match (self.bits >> (2 * target)) & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    /// All, in the order of targets.
    pub fn iter(&self) -> impl Iterator<Item = Indication> + '_ {
        (0..usize::from(self.len)).map(|target| self.get(target))
    }

    fn read(bits: &mut BitReader<'_>, targets: usize) -> Result<Self, CodecFault> {
        let mut all = Self {
            bits: 0,
            len: targets as u8,
        };
        for target in 0..targets {
            all.bits |= u64::from(bits.read(2)?) << (2 * target);
        }
        Ok(all)
    }
}

/// How far before a frame its references are, in frame numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differences {
    values: [u16; MAX_DIFFERENCES],
    len: u8,
}

impl Differences {
    /// All of them; none for a frame that depends on no other.
    pub fn as_slice(&self) -> &[u16] {
        &self.values[..usize::from(self.len)]
    }

    fn push(&mut self, value: u16) -> Result<(), CodecFault> {
        *self
            .values
            .get_mut(usize::from(self.len))
            .ok_or(CodecFault::Malformed)? = value;
        self.len += 1;
        Ok(())
    }
}

/// For each chain, how far before a frame the chain's previous frame is; 0: the chain begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chains {
    values: [u8; MAX_TARGETS],
    len: u8,
}

impl Chains {
    /// All of them.
    pub fn as_slice(&self) -> &[u8] {
        &self.values[..usize::from(self.len)]
    }

    fn read(bits: &mut BitReader<'_>, chains: usize, width: u32) -> Result<Self, CodecFault> {
        let mut all = Self {
            len: chains as u8,
            ..Self::default()
        };
        for value in &mut all.values[..chains] {
            *value = bits.read(width)? as u8;
        }
        Ok(all)
    }
}

/// The dependencies that many frames share.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    indications: Indications,
    differences: Differences,
    chains: Chains,
}

/// A decode target: what is received when nothing above it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target {
    /// Its highest spatial layer.
    pub spatial: u8,
    /// Its highest temporal layer.
    pub temporal: u8,
    /// The chain that protects it: when it is whole, the target decodes. `None` without chains.
    pub chain: Option<u8>,
}

/// What a key frame says of the frames up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    id_offset: u8,
    templates: Vec<Template>,
    targets: Vec<Target>,
    chains: u8,
    /// Width and height of each spatial layer; empty when not told.
    resolutions: Vec<(u16, u16)>,
}

impl Structure {
    /// The decode targets, by index.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// How many chains there are.
    pub fn chains(&self) -> usize {
        usize::from(self.chains)
    }

    /// Width and height of each spatial layer, lowest first; empty when not told.
    pub fn resolutions(&self) -> &[(u16, u16)] {
        &self.resolutions
    }

    /// The bit mask of all decode targets.
    pub fn all_targets(&self) -> u32 {
        mask(self.targets.len())
    }

    /// The highest spatial layer.
    pub fn max_spatial(&self) -> u8 {
        self.templates
            .iter()
            .map(|template| template.spatial)
            .max()
            .unwrap_or(0)
    }

    fn read(bits: &mut BitReader<'_>) -> Result<Self, CodecFault> {
        let id_offset = bits.read(6)? as u8;
        let target_count = bits.read(5)? as usize + 1;
        let mut templates = Vec::new();
        let (mut spatial, mut temporal) = (0u8, 0u8);
        loop {
            if templates.len() == MAX_TEMPLATES {
                return Err(CodecFault::Malformed);
            }
            templates.push(Template {
                spatial,
                temporal,
                indications: Indications::default(),
                differences: Differences::default(),
                chains: Chains::default(),
            });
            match bits.read(2)? {
                0 => {}
                1 if temporal < MAX_TEMPORAL => temporal += 1,
                2 if usize::from(spatial) + 1 < MAX_SPATIAL => {
                    temporal = 0;
                    spatial += 1;
                }
                3 => break,
                _ => return Err(CodecFault::Malformed),
            }
        }
        for template in &mut templates {
            template.indications = Indications::read(bits, target_count)?;
        }
        for template in &mut templates {
            while bits.read(1)? == 1 {
                template.differences.push(bits.read(4)? as u16 + 1)?;
            }
        }
        let chains = bits.read_up_to(target_count as u32 + 1)? as u8;
        let mut targets = vec![Target::default(); target_count];
        if chains > 0 {
            for target in &mut targets {
                target.chain = Some(bits.read_up_to(u32::from(chains))? as u8);
            }
            for template in &mut templates {
                template.chains = Chains::read(bits, usize::from(chains), 4)?;
            }
        }
        for (index, target) in targets.iter_mut().enumerate() {
            for template in &templates {
                if template.indications.get(index) != Indication::NotPresent {
                    target.spatial = target.spatial.max(template.spatial);
                    target.temporal = target.temporal.max(template.temporal);
                }
            }
        }
        let mut resolutions = Vec::new();
        if bits.read(1)? == 1 {
            for _ in 0..=spatial {
                // Sizes are written less one; 65,536 does not fit and nobody has it.
                let width = (bits.read(16)? as u16).saturating_add(1);
                resolutions.push((width, (bits.read(16)? as u16).saturating_add(1)));
            }
        }
        Ok(Self {
            id_offset,
            templates,
            targets,
            chains,
            resolutions,
        })
    }
}

fn mask(targets: usize) -> u32 {
    u32::MAX >> (32 - targets.clamp(1, 32))
}

/// What the descriptor of one packet says of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The packet is the first of its frame.
    pub first_packet: bool,
    /// The packet is the last of its frame.
    pub last_packet: bool,
    /// The frame's number, which wraps.
    pub number: u16,
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// What it is to each decode target.
    pub indications: Indications,
    /// What it refers to.
    pub differences: Differences,
    /// Its place in each chain.
    pub chains: Chains,
    /// The descriptor brought a structure: a key frame.
    pub has_structure: bool,
    /// Which decode targets are sent from here on, when it says so.
    pub active_targets: Option<u32>,
    /// Width and height, when the structure tells.
    pub resolution: Option<(u16, u16)>,
    layout: Layout,
}

impl Frame {
    /// Some decode target can be switched to here.
    pub fn is_switch(&self) -> bool {
        self.indications
            .iter()
            .any(|indication| indication == Indication::Switch)
    }

    /// No decode target that it is part of needs it.
    pub fn is_discardable(&self) -> bool {
        self.indications.iter().all(|indication| {
            matches!(indication, Indication::Discardable | Indication::NotPresent)
        })
    }
}

/// Where the parts of a descriptor lie, in bits: what [`rewrite`] needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Layout {
    /// The five flags are there.
    extended: bool,
    targets: u8,
    /// Where the active target mask is, or would be.
    mask_at: u16,
    /// Where what follows the mask begins.
    after_mask: u16,
    end: u16,
}

/// Bits of the fields that every descriptor has.
const MANDATORY: usize = 24;
/// Bits of the flags of a longer one.
const FLAGS: usize = 5;

/// Reads the descriptors of one stream, in the order in which packets come.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    structure: Option<Box<Structure>>,
}

impl Tracker {
    /// The structure in force; `None` before the first key frame.
    pub fn structure(&self) -> Option<&Structure> {
        self.structure.as_deref()
    }

    /// Reads the descriptor of a packet. A structure that it brings is kept for those that follow; a faulty
    /// descriptor changes nothing.
    pub fn handle(&mut self, data: &[u8]) -> Result<Frame, CodecFault> {
        let (frame, structure) = read(data, self.structure.as_deref())?;
        if let Some(structure) = structure
            && self.structure.as_deref() != Some(&structure)
        {
            self.structure = Some(Box::new(structure));
        }
        Ok(frame)
    }
}

fn read(data: &[u8], known: Option<&Structure>) -> Result<(Frame, Option<Structure>), CodecFault> {
    let mut bits = BitReader::new(data);
    let first_packet = bits.read(1)? == 1;
    let last_packet = bits.read(1)? == 1;
    let id = bits.read(6)? as u8;
    let number = bits.read(16)? as u16;
    let extended = data.len() > MANDATORY / 8;
    let mut flags = [false; FLAGS];
    if extended {
        for flag in &mut flags {
            *flag = bits.read(1)? == 1;
        }
    }
    let [
        has_structure,
        has_mask,
        custom_indications,
        custom_differences,
        custom_chains,
    ] = flags;
    let brought = if has_structure {
        Some(Structure::read(&mut bits)?)
    } else {
        None
    };
    let structure = brought.as_ref().or(known).ok_or(CodecFault::NoStructure)?;
    let targets = structure.targets.len();
    let mask_at = bits.position();
    let active_targets = if has_mask {
        Some(bits.read(targets as u32)?)
    } else {
        has_structure.then(|| mask(targets))
    };
    let after_mask = bits.position();

    let index = (id + 64 - structure.id_offset) % 64;
    let template = structure
        .templates
        .get(usize::from(index))
        .ok_or(CodecFault::Malformed)?;
    let indications = if custom_indications {
        Indications::read(&mut bits, targets)?
    } else {
        template.indications
    };
    let differences = if custom_differences {
        let mut differences = Differences::default();
        loop {
            let size = bits.read(2)?;
            if size == 0 {
                break differences;
            }
            differences.push(bits.read(4 * size)? as u16 + 1)?;
        }
    } else {
        template.differences
    };
    let chains = if custom_chains {
        Chains::read(&mut bits, structure.chains(), 8)?
    } else {
        template.chains
    };
    let frame = Frame {
        first_packet,
        last_packet,
        number,
        spatial: template.spatial,
        temporal: template.temporal,
        indications,
        differences,
        chains,
        has_structure,
        active_targets,
        resolution: structure
            .resolutions
            .get(usize::from(template.spatial))
            .copied(),
        layout: Layout {
            extended,
            targets: targets as u8,
            mask_at: mask_at as u16,
            after_mask: after_mask as u16,
            end: bits.position() as u16,
        },
    };
    Ok((frame, brought))
}

/// Writes the descriptor `data`, which was read as `frame`, with another frame number and, when given, another mask of
/// active decode targets (it need not have had one). Its length; `None`: no room, or `data` is not what was read.
pub fn rewrite(
    data: &[u8],
    frame: &Frame,
    number: u16,
    active_targets: Option<u32>,
    out: &mut [u8],
) -> Option<usize> {
    let layout = frame.layout;
    let mut from = BitReader::new(data);
    let mut to = BitWriter::new(out);
    to.write(8, from.read(8).ok()?)?;
    from.read(16).ok()?;
    to.write(16, u32::from(number))?;
    let Some(active_targets) = active_targets else {
        to.copy(&mut from, data.len().checked_mul(8)? - MANDATORY)?;
        return Some(to.finish());
    };
    let flags = if layout.extended {
        from.read(FLAGS as u32).ok()?
    } else {
        0
    };
    to.write(FLAGS as u32, flags | 0x08)?;
    let head = MANDATORY + if layout.extended { FLAGS } else { 0 };
    to.copy(&mut from, usize::from(layout.mask_at).checked_sub(head)?)?;
    to.write(u32::from(layout.targets), active_targets)?;
    from.skip(usize::from(layout.after_mask - layout.mask_at))?;
    to.copy(&mut from, usize::from(layout.end - layout.after_mask))?;
    Some(to.finish())
}

#[cfg(test)]
pub(in crate::media) mod tests;
