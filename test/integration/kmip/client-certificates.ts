import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A certificate and its key: PEM texts and the files that they are in. */
export interface Certificate {
  readonly certificate: string
  readonly key: string
  readonly certificatePath: string
  readonly keyPath: string
}

/** An authority for one test, with the certificates that it issued. The folder goes away with it. */
export class TestAuthority implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'sigillo-kmip-'))
  readonly authority: Certificate
  #count = 0

  constructor() {
    this.authority = this.#make('authority', [
      '-x509',
      '-addext',
      'basicConstraints=critical,CA:TRUE',
      '-addext',
      'keyUsage=critical,keyCertSign,cRLSign',
    ])
  }

  /** For the names `localhost` and 127.0.0.1, or others. */
  server(names = 'DNS:localhost,IP:127.0.0.1'): Certificate {
    return this.#issue('server', `extendedKeyUsage=serverAuth\nsubjectAltName=${names}\n`)
  }

  client(): Certificate {
    return this.#issue('client', 'extendedKeyUsage=clientAuth\n')
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  #issue(name: string, extensions: string): Certificate {
    this.#count += 1
    const unique = `${name}-${this.#count}`
    const request = this.#make(unique, [])
    const extensionFile = join(this.folder, `${unique}.ext`)
    writeFileSync(extensionFile, `basicConstraints=CA:FALSE\n${extensions}`)
    const certificatePath = join(this.folder, `${unique}.crt`)
    openssl([
      ...['x509', '-req', '-in', request.certificatePath, '-days', '2', '-out', certificatePath],
      ...['-CA', this.authority.certificatePath, '-CAkey', this.authority.keyPath],
      ...['-CAcreateserial', '-extfile', extensionFile],
    ])
    return { ...request, certificatePath, certificate: readFileSync(certificatePath, 'utf8') }
  }

  #make(name: string, options: readonly string[]): Certificate {
    const keyPath = join(this.folder, `${name}.key`)
    const certificatePath = join(this.folder, `${name}.pem`)
    openssl([
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-subj', `/CN=${name}`, '-days', '2', '-keyout', keyPath, '-out', certificatePath],
      ...options,
    ])
    return {
      certificate: readFileSync(certificatePath, 'utf8'),
      key: readFileSync(keyPath, 'utf8'),
      certificatePath,
      keyPath,
    }
  }
}

function openssl(args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}
