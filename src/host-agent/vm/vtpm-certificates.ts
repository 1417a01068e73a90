import { X509Certificate } from 'node:crypto'
import { chmod } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { type Static, Type } from 'typebox'
import { Uuid } from '../../api/common.js'
import { equalBytes, utf8 } from '../../core/bytes.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { parseEndorsementKey } from './endorsement-key.js'
import { createPrivateFile, writePrivateFile } from './files.js'
import type { VtpmCertifier } from './ports.js'
import { parseRecord } from './records.js'

const MAX_REQUEST_OCTETS = 16 * 1024
const MAX_CERTIFICATE_OCTETS = 8192

/** What swtpm_setup asks for, in its own names. It gives more than this; the rest is not used. */
const ToolRequest = Type.Object({
  type: Type.Union([Type.Literal('ek'), Type.Literal('platform')]),
  ek: Type.String({ maxLength: 2048 }),
  vmid: Uuid,
  'tpm-manufacturer': Type.String({ pattern: '^id:[0-9A-Fa-f]{8}$' }),
  'tpm-model': Type.String({ pattern: '^[A-Za-z0-9 ._-]{1,64}$' }),
  'tpm-version': Type.String({ pattern: '^id:[0-9A-Fa-f]{1,16}$' }),
  'tpm-spec-family': Type.String({ pattern: '^[0-9.]{1,16}$' }),
  'tpm-spec-level': Type.String({ pattern: '^[0-9]{1,5}$' }),
  'tpm-spec-revision': Type.String({ pattern: '^[0-9]{1,5}$' }),
})
type ToolRequest = Static<typeof ToolRequest>

/** `ek-rsa` and `ek-ec` are in NV memory at 0x01C00002 and 0x01C00016, `platform` at 0x01C08000. */
export type VtpmCertificateName = 'ek-rsa' | 'ek-ec' | 'platform'

/** One run of swtpm_setup: a program for it to call, and a socket of its own behind that. */
export interface CertificateJob extends AsyncDisposable {
  /** Path of the program to name as `create_certs_tool`. */
  readonly tool: string
  /** Certificates that were given out so far, DER. */
  readonly issued: ReadonlyMap<VtpmCertificateName, Uint8Array>
  /** Why the first request was refused. */
  readonly failure: unknown
}

/**
 * Has the certificates of one vTPM issued by the certifier, whose key is elsewhere.
 *
 * swtpm_setup can only call a program. It gets one that hands its arguments over a socket of this one job, so that
 * no other vTPM can have certificates for this VM. Each certificate is checked before the vTPM gets it.
 *
 * @param options.directory private and empty; the caller removes it. It must allow the execution of files.
 */
export async function openCertificateJob(options: {
  readonly directory: string
  readonly vmId: string
  readonly certifier: VtpmCertifier
  readonly now: () => number
}): Promise<CertificateJob> {
  const { directory, vmId, certifier, now } = options
  const issued = new Map<VtpmCertificateName, Uint8Array>()
  let failure: unknown

  const issue = async (octets: Uint8Array): Promise<Uint8Array> => {
    const request = parseRecord(ToolRequest, octets, 'VTPM_CERTIFICATE', 'the request')
    if (request.vmid !== vmId) {
      throw new PlatformError('VTPM_CERTIFICATE', `expected a request for VM ${vmId}`)
    }
    const publicKeySpki = parseEndorsementKey(request.ek)
    const certificate = await certifier.certify({
      vmId,
      kind: request.type,
      publicKeySpki,
      tpm: {
        manufacturer: request['tpm-manufacturer'],
        model: request['tpm-model'],
        version: request['tpm-version'],
        specification: {
          family: request['tpm-spec-family'],
          level: Number(request['tpm-spec-level']),
          revision: Number(request['tpm-spec-revision']),
        },
      },
    })
    checkCertificate(certificate, publicKeySpki, await certifier.authorityPem(), now())
    issued.set(nameOf(request), certificate)
    return certificate
  }

  await writePrivateFile(`${directory}/certify.cjs`, TOOL)
  const tool = await createPrivateFile(`${directory}/certify`)
  await tool.writeFile(`#!/bin/sh\nexec ${quote(process.execPath)} "$0.cjs" "$@"\n`)
  await tool.chmod(0o700)
  await tool.close()

  const server = createServer({ allowHalfOpen: true }, (socket) => {
    serve(socket, issue).catch((error: unknown) => {
      failure ??= error
      socket.destroy()
    })
  })
  await listen(server, `${directory}/ca`)
  return {
    tool: `${directory}/certify`,
    issued,
    get failure() {
      return failure
    },
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

/**
 * Refuses a certificate for another key, by another authority, or not valid now. Does not check its extensions: the
 * authority made them.
 *
 * @throws PlatformError `VTPM_CERTIFICATE`
 */
export function checkCertificate(
  der: Uint8Array,
  publicKeySpki: Uint8Array,
  authorityPem: string,
  nowMs: number,
): void {
  const refuse = (what: string, cause?: unknown) =>
    new PlatformError('VTPM_CERTIFICATE', `the certificate of the virtual TPM ${what}`, { cause })
  if (der.length > MAX_CERTIFICATE_OCTETS) throw refuse('is too large')
  let certificate: X509Certificate
  let authority: X509Certificate
  try {
    certificate = new X509Certificate(der)
    authority = new X509Certificate(authorityPem)
  } catch (cause) {
    throw refuse(`cannot be read: ${messageOf(cause)}`, cause)
  }
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' })
  if (!equalBytes(spki, publicKeySpki)) throw refuse('is for another key')
  if (!certificate.checkIssued(authority) || !certificate.verify(authority.publicKey)) {
    throw refuse('is not by the authority')
  }
  if (nowMs < Date.parse(certificate.validFrom) || nowMs > Date.parse(certificate.validTo)) {
    throw refuse(`is valid from ${certificate.validFrom} to ${certificate.validTo}`)
  }
}

function nameOf(request: ToolRequest): VtpmCertificateName {
  if (request.type === 'platform') return 'platform'
  return request.ek.startsWith('x=') ? 'ek-ec' : 'ek-rsa'
}

async function serve(
  socket: Socket,
  issue: (request: Uint8Array) => Promise<Uint8Array>,
): Promise<void> {
  const chunks: Buffer[] = []
  let octets = 0
  // the other side has ended its half only: it waits for the answer
  const request: AsyncIterable<Buffer> = socket.iterator({ destroyOnReturn: false })
  for await (const chunk of request) {
    octets += chunk.length
    if (octets > MAX_REQUEST_OCTETS) {
      throw new PlatformError('VTPM_CERTIFICATE', 'the request is too large')
    }
    chunks.push(chunk)
  }
  socket.end(await issue(Buffer.concat(chunks)))
}

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  await chmod(path, 0o600)
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

/** Sends the options it was called with as JSON, and writes the answer where swtpm_setup expects it. */
const TOOL = utf8(`'use strict'
const { connect } = require('node:net')
const { writeFileSync } = require('node:fs')
const request = {}
for (const [index, option] of process.argv.entries()) {
  if (option.startsWith('--')) request[option.slice(2)] = process.argv[index + 1] ?? ''
}
const answer = []
process.exitCode = 1
connect(__dirname + '/ca')
  .on('error', () => process.exit(1))
  .on('data', (chunk) => answer.push(chunk))
  .on('end', () => {
    if (answer.length === 0) return
    writeFileSync(request.dir + '/' + request.type + '.cert', Buffer.concat(answer), { mode: 0o600 })
    process.exitCode = 0
  })
  .end(JSON.stringify(request))
`)
