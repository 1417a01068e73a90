import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { toHex } from '../../../src/core/bytes.js'
import { ByteReader } from '../../../src/core/reader.js'
import { encodeSized } from '../../../src/tpm/index.js'

const run = promisify(execFile)

/** Runs a program of tpm2-tools, on the TPM at `tcti` or on none. A software TPM serves one connection at a time. */
export async function tpm2(
  program: string,
  args: readonly string[],
  tcti = 'none',
): Promise<string> {
  const { stdout } = await run(`tpm2_${program}`, ['-T', tcti, ...args])
  return stdout
}

/** Keys and sessions in the TPM, as tpm2-tools sees them. */
export async function handlesLeft(tcti: string): Promise<readonly string[]> {
  const kinds = ['handles-transient', 'handles-loaded-session', 'handles-saved-session']
  const lists: string[] = []
  for (const kind of kinds) lists.push(await tpm2('getcap', [kind], tcti))
  return [...lists.join('\n').matchAll(/0x[0-9A-F]+/gi)].map(([handle]) => handle)
}

/** A credential as tpm2-tools makes it. */
export async function makeCredentialWithTools(input: {
  readonly ekPublicBlob: Uint8Array
  readonly akName: Uint8Array
  readonly secret: Uint8Array
}): Promise<{ readonly credentialBlob: Uint8Array; readonly encryptedSecret: Uint8Array }> {
  const folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  try {
    const ek = join(folder, 'ek')
    const secret = join(folder, 'secret')
    const out = join(folder, 'out')
    await writeFile(ek, input.ekPublicBlob)
    await writeFile(secret, input.secret)
    await tpm2('makecredential', [
      ...['-u', ek, '-s', secret, '-n', toHex(input.akName), '-o', out],
    ])
    const reader = new ByteReader(new Uint8Array(await readFile(out)), 'big')
    // magic and version of the tool's file
    reader.take(8)
    const sized = (): Uint8Array => encodeSized(reader.take(reader.u16()))
    return { credentialBlob: sized(), encryptedSecret: sized() }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
