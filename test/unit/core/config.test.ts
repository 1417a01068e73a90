import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from 'typebox'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { loadConfig } from '../../../src/core/config.js'

const schema = Type.Object(
  {
    name: Type.String({ default: 'one' }),
    server: Type.Object(
      {
        port: Type.Integer({ default: 1, minimum: 1, maximum: 65535 }),
        idleSeconds: Type.Optional(Type.Integer()),
        origins: Type.Array(Type.String(), { default: [] }),
      },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sigillo-config-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function file(text: string): string {
  const path = join(folder, 'c.toml')
  writeFileSync(path, text)
  return path
}

test('a flag beats the environment, which beats the file, which beats the default', () => {
  const options = { prefix: 'T', file: file('[server]\nport = 2\n'), env: {} }
  expect(loadConfig(schema, { prefix: 'T', env: {} }).config.server.port).toBe(1)
  expect(loadConfig(schema, options).config.server.port).toBe(2)
  const env = { T_SERVER_PORT: '3', T_SERVER_ORIGINS: 'a,b' }
  const loaded = loadConfig(schema, { ...options, env })
  expect(loaded.config.server).toEqual({ port: 3, origins: ['a', 'b'] })
  expect(
    loadConfig(schema, { ...options, env, flags: { 'server.port': 4 } }).config.server.port,
  ).toBe(4)
  expect(loaded.settings.find((s) => s.path === 'server.port')?.source).toBe('environment')
  expect(loaded.settings.find((s) => s.path === 'server.idleSeconds')?.variable).toBe(
    'T_SERVER_IDLE_SECONDS',
  )
})

test.each([
  ['an unknown key', 'nam = "x"\n', 'CONFIG_INVALID'],
  ['an unknown key in a section', '[server]\nprot = 2\n', 'CONFIG_INVALID'],
  ['a value of another type', 'name = 3\n', 'CONFIG_INVALID'],
  ['a value out of bounds', '[server]\nport = 0\n', 'CONFIG_INVALID'],
  ['text that is not TOML', 'name = \n', 'CONFIG_UNREADABLE'],
])('refuses %s', (_, text, code) => {
  expect(() => loadConfig(schema, { prefix: 'T', file: file(text), env: {} })).toThrow(
    expect.objectContaining({ code }),
  )
})

test('refuses a number in the environment that is none', () => {
  expect(() => loadConfig(schema, { prefix: 'T', env: { T_SERVER_PORT: '1e3' } })).toThrow(
    expect.objectContaining({ code: 'CONFIG_INVALID' }),
  )
})
