import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PlatformError } from '../src/core/errors.js'

/**
 * Makes the state of a new TPM with swtpm_setup, under configuration files of our own: the machine's defaults would make
 * a certificate authority for each machine.
 *
 * @param options.ca folder with `issuer.pem` and `issuer.key`; without it the TPM has no certificates
 */
export async function manufacture(options: {
  readonly folder: string
  readonly name: string
  readonly ca: string | undefined
  readonly pcrBanks: readonly string[]
}): Promise<void> {
  const { folder, ca } = options
  const setup = join(folder, 'setup.conf')
  const certificates = ca === undefined ? [] : await writeCertificateTool(folder, ca)
  await writeFile(setup, `${certificates.join('\n')}\n`, { mode: 0o600 })
  const state = join(folder, 'state')
  await mkdir(state, { mode: 0o700 })
  await run('swtpm_setup', [
    ...['--tpm2', '--tpmstate', state, '--config', setup, '--vmid', options.name],
    ...['--pcr-banks', options.pcrBanks.join(','), '--lock-nvram', '--overwrite'],
    ...(ca === undefined ? ['--createek'] : ['--create-ek-cert', '--create-platform-cert']),
  ])
}

/** Lines of the setup file that name the certificate tool, whose own files are written here. */
async function writeCertificateTool(folder: string, ca: string): Promise<readonly string[]> {
  const config = join(folder, 'localca.conf')
  const options = join(folder, 'localca.options')
  const serials = join(folder, 'localca')
  await mkdir(serials, { mode: 0o700 })
  await writeFile(
    config,
    [
      `statedir = ${serials}`,
      `signingkey = ${join(ca, 'issuer.key')}`,
      `issuercert = ${join(ca, 'issuer.pem')}`,
      `certserial = ${join(serials, 'certserial')}`,
      '',
    ].join('\n'),
    { mode: 0o600 },
  )
  await writeFile(
    options,
    '--platform-manufacturer Sigillo\n--platform-version 1.0\n--platform-model lab\n',
    { mode: 0o600 },
  )
  return [
    'create_certs_tool = /usr/bin/swtpm_localca',
    `create_certs_tool_config = ${config}`,
    `create_certs_tool_options = ${options}`,
  ]
}

async function run(program: string, args: readonly string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve)
  })
  if (code !== 0) {
    throw new PlatformError('LAB_PROCESS', `${program} failed: ${output.trim().slice(-500)}`)
  }
}
