import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sharedVectors } from '../../helpers/vectors.js'

/** A test case of the standard: requests and the responses to them, in XML. */
export interface OasisCase {
  readonly version: string
  readonly name: string
  readonly xml: string
}

const FOLDERS: Readonly<Record<string, readonly string[]>> = {
  '1.0': ['ovh-kmip-go/kmiptest/testdata/v1.0'],
  '1.1': ['ovh-kmip-go/kmiptest/testdata/v1.1'],
  '1.2': ['ovh-kmip-go/kmiptest/testdata/v1.2'],
  '1.4': ['ovh-kmip-go/kmiptest/testdata/v1.4'],
  '2.0': ['Cosmian-kmip-oasis/v2.0/XML/mandatory', 'Cosmian-kmip-oasis/v2.0/XML/optional'],
  '2.1': ['Cosmian-kmip-oasis/v2.1/XML/mandatory', 'Cosmian-kmip-oasis/v2.1/XML/optional'],
}

/** Every case of the standard from 1.0 to 2.1; nothing where the shared vectors are absent. */
export function oasisCases(): readonly OasisCase[] {
  const root = sharedVectors('kmip')
  if (root === undefined) return []
  return Object.entries(FOLDERS).flatMap(([version, folders]) =>
    folders.flatMap((folder) =>
      readdirSync(join(root, folder))
        .filter((name) => name.endsWith('.xml'))
        .map((name) => ({ version, name, xml: readFileSync(join(root, folder, name), 'utf8') })),
    ),
  )
}

/**
 * The document with a value for each `$NAME`, and without the notes and the line numbers that stand between elements:
 * what is left are messages.
 */
export function bindPlaceholders(xml: string): string {
  return xml
    .replaceAll(/<!--[\s\S]*?-->/g, '')
    .replaceAll(/>[^<>]+</g, '><')
    .replaceAll(/"\$NOW([+-]\d+)?"/g, (_all, offset: string | undefined) => {
      const ms = Date.UTC(2026, 0, 1) + Number(offset ?? 0) * 1000
      return `"${new Date(ms).toISOString().replace('.000Z', '+00:00')}"`
    })
    .replaceAll(
      /type="ByteString"\s+value="\$[A-Z_0-9]+"/g,
      'type="ByteString" value="0011223344556677"',
    )
}
