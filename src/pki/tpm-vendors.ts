/**
 * Makers of TPMs by the identifier that their certificates carry: four octets, hexadecimal, text padded with zeros or spaces.
 *
 * `00001014` is what swtpm writes; its certificates are trusted by whoever trusts their authority, as any.
 *
 * @see TCG TPM Vendor ID Registry, family 1.2 and 2.0
 */
const VENDORS: Readonly<Record<string, string>> = {
  '00001014': 'swtpm',
  '414D4400': 'AMD',
  '414E5400': 'Ant Group',
  '41544D4C': 'Atmel',
  '4252434D': 'Broadcom',
  '4353434F': 'Cisco',
  '464C5953': 'Flyslice Technologies',
  '474F4F47': 'Google',
  '48495349': 'Huawei',
  '48504500': 'HPE',
  '48504900': 'HP Inc.',
  '49424D00': 'IBM',
  '49465800': 'Infineon',
  '494E5443': 'Intel',
  '4C454E00': 'Lenovo',
  '4D534654': 'Microsoft',
  '4E534D20': 'National Semiconductor',
  '4E534700': 'NSING',
  '4E544300': 'Nuvoton',
  '4E545A00': 'Nationz',
  '51434F4D': 'Qualcomm',
  '524F4343': 'Rockchip',
  '53454345': 'SecEdge',
  '5345414C': 'Wisekey',
  '534D5343': 'SMSC',
  '534D534E': 'Samsung',
  '534E5300': 'Sinosun',
  '53544D20': 'STMicroelectronics',
  '54584E00': 'Texas Instruments',
  '564D5700': 'VMware',
  '57454300': 'Winbond',
}

/** The maker behind `id:494E5443`, or behind `0x494E5443` as some write it; nothing where it is of no maker. */
export function vendorName(manufacturer: string): string | undefined {
  const id = /^(?:id:|0x)([0-9a-f]{8})$/i.exec(manufacturer)?.[1]
  return id === undefined ? undefined : VENDORS[id.toUpperCase()]
}
