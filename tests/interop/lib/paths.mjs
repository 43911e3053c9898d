// Every place on the disk that the interop tests touch.
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** tests/interop */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
export const inRoot = (...parts) => path.join(root, ...parts);

/** Results, figures, screenshots, logs: one folder a case. */
export const outDir = inRoot('out');
export const outOf = (name) => path.join(outDir, name);

/** The server under test; another binary with livekit-server's command line will do too. */
export const serverBinary = () =>
  process.env.INTEROP_SERVER ?? path.resolve(root, '../../target/release/parlor');

export const python = () => process.env.INTEROP_PYTHON ?? inRoot('.venv/bin/python');

/** The program around LiveKit's server SDK for Rust. */
export const rustAdmin = () => process.env.INTEROP_RUST_ADMIN ?? path.resolve(root, '../../target/rust-admin/debug/rust-admin');
