import { createCipheriv, createDecipheriv } from 'node:crypto'
import { concat, utf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { ByteReader, ByteWriter } from '../../core/reader.js'
import { Secret } from '../../core/secret.js'
import { Home, parseRecord } from './records.js'

const MAGIC = utf8('SGVH')
const VERSION = 1
const IV_OCTETS = 12
const TAG_OCTETS = 16
const HEADER_OCTETS = 9

/**
 * Octets of `home.enc`: `SGVH` ‖ version (1 octet) ‖ generation (4, big-endian) ‖ IV (12) ‖ ciphertext ‖ tag (16).
 *
 * AES-256-GCM under the home key of this generation; the header and the id of the VM are authenticated with it.
 *
 * @see NIST SP 800-38D, section 8.2.2 for the random IV: one home key seals a few homes, never many
 */
export function sealHome(home: Home, vmId: string, generation: number, dek: Secret): Uint8Array {
  const header = encodeHeader(generation)
  const iv = randomOctets(IV_OCTETS)
  const plain = utf8(JSON.stringify(home))
  return dek.use((key) => {
    const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_OCTETS })
    cipher.setAAD(concat(header, utf8(vmId)))
    const sealed = concat(cipher.update(plain), cipher.final())
    return concat(header, iv, sealed, cipher.getAuthTag())
  })
}

/**
 * The home that `sealHome` sealed for this VM and generation.
 *
 * @throws PlatformError `VM_HOME_CORRUPT`; a wrong key and an altered file look the same
 */
export function openHome(octets: Uint8Array, vmId: string, generation: number, dek: Secret): Home {
  if (octets.length < HEADER_OCTETS + IV_OCTETS + TAG_OCTETS) {
    throw corrupt(`the home of VM ${vmId} is too short`)
  }
  const reader = new ByteReader(octets, 'big')
  const header = reader.take(HEADER_OCTETS)
  const iv = reader.take(IV_OCTETS)
  const sealed = reader.take(reader.remaining - TAG_OCTETS)
  const tag = reader.rest()
  if (!Buffer.from(header).equals(encodeHeader(generation))) {
    throw corrupt(`expected a home of version ${VERSION} and generation ${generation}`)
  }
  const plain = new Secret(
    dek.use((key) => {
      const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_OCTETS })
      decipher.setAAD(concat(header, utf8(vmId)))
      decipher.setAuthTag(tag)
      const opened = decipher.update(sealed)
      try {
        decipher.final()
      } catch (cause) {
        opened.fill(0)
        throw corrupt(`the home of VM ${vmId} does not verify`, cause)
      }
      return opened
    }),
  )
  try {
    return plain.use((text) => parseRecord(Home, text, 'VM_HOME_CORRUPT', 'the home'))
  } finally {
    plain.dispose()
  }
}

function encodeHeader(generation: number): Uint8Array {
  return new ByteWriter('big').put(MAGIC).u8(VERSION).u32(generation).finish()
}

function corrupt(message: string, cause?: unknown): PlatformError {
  return new PlatformError('VM_HOME_CORRUPT', message, { cause })
}
