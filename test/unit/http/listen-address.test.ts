import { expect, test } from 'vitest'
import { isLoopback, parseListenAddress, urlOf } from '../../../src/http/listen-address.js'

test.each([
  ['127.0.0.1:8440', { kind: 'tcp', host: '127.0.0.1', port: 8440 }],
  ['authority.example:0', { kind: 'tcp', host: 'authority.example', port: 0 }],
  ['[::1]:443', { kind: 'tcp', host: '::1', port: 443 }],
  ['unix:/run/sigillo/agent.sock', { kind: 'unix', path: '/run/sigillo/agent.sock' }],
])('%s is an address', (text, address) => {
  expect(parseListenAddress(text)).toEqual(address)
})

test.each([
  '',
  '8440',
  ':8440',
  'a:',
  'a:65536',
  '::1:80',
  'a b:1',
  'unix:',
  'unix:relative',
  `unix:/${'a'.repeat(107)}`,
  'http://a:1',
])('%s is none', (text) => {
  expect(() => parseListenAddress(text)).toThrow(expect.objectContaining({ code: 'LISTEN_FAILED' }))
})

test('loopback is what only this machine can reach', () => {
  expect(['127.0.0.1', '127.9.9.9', '::1', 'localhost'].filter(isLoopback)).toHaveLength(4)
  expect(
    ['0.0.0.0', '::', '10.0.0.1', '127.evil.example', 'localhost.evil.example'].filter(isLoopback),
  ).toEqual([])
})

test('an IPv6 address stands in brackets in a URL', () => {
  expect(urlOf('https', '::1', 8440)).toBe('https://[::1]:8440')
})
