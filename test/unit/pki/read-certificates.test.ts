import { describe, expect, test } from 'vitest'
import { readCertificates } from '../../../src/pki/index.js'
import { authority, certificate, commonName, ecKeys, pemOf } from '../../helpers/certificates.js'

const root = authority('Root')
const issuer = authority('Issuer', { issuer: root })
const leaf = certificate({ issuer, subject: commonName('Leaf'), publicKey: ecKeys().publicKey })
const pem = (octets: Uint8Array) => pemOf('CERTIFICATE', octets)
const read = (text: string) => readCertificates(Buffer.from(text, 'latin1'))

describe('a file of certificates', () => {
  test('is sorted into roots, intermediates and others', () => {
    const bundle = read(
      `# makers\n${pem(root.der)}subject=CN = Issuer\r\n${pem(issuer.der)}\n${pem(leaf)}`,
    )
    expect(bundle.roots.map(({ subject }) => subject)).toEqual(['CN=Root'])
    expect(bundle.intermediates.map(({ subject }) => subject)).toEqual(['CN=Issuer'])
    expect(bundle.others.map(({ subject }) => subject)).toEqual(['CN=Leaf'])
  })

  test('has each certificate once', () => {
    expect(read(pem(root.der).repeat(3)).all).toHaveLength(1)
  })

  test('may be DER', () => {
    expect(readCertificates(root.der).roots).toHaveLength(1)
  })

  test.each<[string, string, string]>([
    ['nothing in it', 'CERT_UNREADABLE', ''],
    ['a key in it', 'CERT_PRIVATE_KEY', pemOf('PRIVATE KEY', new Uint8Array(8)) + pem(root.der)],
    ['a block of something else', 'CERT_PEM', pem(root.der) + pemOf('PUBLIC KEY', leaf)],
    ['a block without an end', 'CERT_PEM', pem(root.der).replace(/-----END.*/, '')],
    ['a block in a block', 'CERT_PEM', pem(root.der).replace('\n', `\n${pem(root.der)}`)],
    ['what is no base64', 'CERT_PEM', pem(root.der).replace('MII', 'M*I')],
    ['what is no certificate', 'CERT_UNREADABLE', pem(Uint8Array.of(1, 2, 3))],
    ['more than 1000', 'CERT_TOO_LARGE', pem(root.der).repeat(1001)],
    ['more than a mebibyte', 'CERT_TOO_LARGE', '#'.repeat(1024 * 1024 + 1)],
  ])('is refused with %s (%s)', (_, code, text) => {
    expect(() => read(text)).toThrow(expect.objectContaining({ code }))
  })

  test('is refused with the line of what is wrong', () => {
    expect(() => read(`${pem(root.der)}\u0001\n`)).toThrow(/line \d+/)
  })
})
