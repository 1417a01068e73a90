import {
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

/** Replaces a private file of the state directory in one step: after a crash the old or the new one is there. */
export function replaceFile(directory: string, name: string, text: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  chmodSync(directory, 0o700)
  const path = join(directory, name)
  const temporary = `${path}.new`
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants
  const descriptor = openSync(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
  try {
    writeFileSync(descriptor, text)
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  renameSync(temporary, path)
  syncFolder(directory)
}

/** Removes such a file, and what a crash left of the one that was to take its place. */
export function removeFile(directory: string, name: string): void {
  rmSync(join(directory, name), { force: true })
  rmSync(join(directory, `${name}.new`), { force: true })
  syncFolder(directory)
}

function syncFolder(directory: string): void {
  const folder = openSync(directory, constants.O_RDONLY)
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}
