import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { toHex } from '../../../src/core/bytes.js'
import { ByteReader } from '../../../src/core/reader.js'

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

/** A credential as tpm2-tools makes it. */
export async function makeCredentialWithTools(input: {
  readonly ekPublicBlob: Uint8Array
  readonly akName: Uint8Array
  readonly secret: Uint8Array
}): Promise<{ readonly credentialBlob: Uint8Array; readonly encryptedSecret: Uint8Array }> {
  const folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  try {
    const [ek, secret, out] = ['ek', 'secret', 'out'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    await writeFile(ek, input.ekPublicBlob)
    await writeFile(secret, input.secret)
    await tpm2('makecredential', [
      ...['-u', ek, '-s', secret, '-n', toHex(input.akName), '-o', out],
    ])
    const reader = new ByteReader(new Uint8Array(await readFile(out)), 'big')
    // magic and version of the tool's file
    reader.take(8)
    const sized = (): Uint8Array =>
      reader.take(2 + (reader.peek(2)[0] ?? 0) * 256 + (reader.peek(2)[1] ?? 0))
    return { credentialBlob: sized(), encryptedSecret: sized() }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
