import { randomBytes, randomUUID } from 'node:crypto'

/** Octets of the operating system's generator. */
export function randomOctets(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length))
}

/** A random UUID (version 4), for names of objects. Not a secret. */
export function newUuid(): string {
  return randomUUID()
}
