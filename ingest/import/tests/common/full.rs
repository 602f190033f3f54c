//! An invoice that has every element that the maps know, for tests that change one thing in it.

/// A UBL invoice with every business term.
pub const UBL: &str = r##"<?xml version="1.0" encoding="UTF-8"?>
<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
 xmlns:a="urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
 xmlns:b="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">
<b:CustomizationID>urn:cen.eu:en16931:2017</b:CustomizationID><b:ProfileID>P1</b:ProfileID>
<b:ID>R-2026/1</b:ID><b:IssueDate>2026-11-21</b:IssueDate><b:DueDate>2026-12-21</b:DueDate>
<b:InvoiceTypeCode>380</b:InvoiceTypeCode><b:Note>#AAI#Grüße &amp; Dank</b:Note>
<b:TaxPointDate>2026-11-20</b:TaxPointDate><b:DocumentCurrencyCode>EUR</b:DocumentCurrencyCode>
<b:TaxCurrencyCode>SEK</b:TaxCurrencyCode><b:AccountingCost>K1</b:AccountingCost>
<b:BuyerReference>B-REF</b:BuyerReference>
<a:InvoicePeriod><b:StartDate>2026-11-01</b:StartDate><b:EndDate>2026-11-30</b:EndDate>
<b:DescriptionCode>35</b:DescriptionCode></a:InvoicePeriod>
<a:OrderReference><b:ID>PO1</b:ID><b:SalesOrderID>SO1</b:SalesOrderID></a:OrderReference>
<a:BillingReference><a:InvoiceDocumentReference><b:ID>R-2026/0</b:ID>
<b:IssueDate>2026-10-01</b:IssueDate></a:InvoiceDocumentReference></a:BillingReference>
<a:DespatchDocumentReference><b:ID>D1</b:ID></a:DespatchDocumentReference>
<a:ReceiptDocumentReference><b:ID>RC1</b:ID></a:ReceiptDocumentReference>
<a:OriginatorDocumentReference><b:ID>T1</b:ID></a:OriginatorDocumentReference>
<a:ContractDocumentReference><b:ID>C1</b:ID></a:ContractDocumentReference>
<a:AdditionalDocumentReference><b:ID>OBJ</b:ID><b:DocumentTypeCode>130</b:DocumentTypeCode>
</a:AdditionalDocumentReference>
<a:AdditionalDocumentReference><b:ID>DOC</b:ID><b:DocumentDescription>Sheet</b:DocumentDescription>
<a:Attachment><b:EmbeddedDocumentBinaryObject mimeCode="text/plain">YWJj</b:EmbeddedDocumentBinaryObject>
<a:ExternalReference><b:URI>https://example.org/1</b:URI></a:ExternalReference></a:Attachment>
</a:AdditionalDocumentReference>
<a:ProjectReference><b:ID>PR1</b:ID></a:ProjectReference>
<a:AccountingSupplierParty><a:Party><b:EndpointID>s@example.org</b:EndpointID>
<a:PartyIdentification><b:ID schemeID="0088">4012345000009</b:ID></a:PartyIdentification>
<a:PartyIdentification><b:ID schemeID="SEPA">DE98ZZZ09999999999</b:ID></a:PartyIdentification>
<a:PartyName><b:Name>Seller Trade</b:Name></a:PartyName>
<a:PostalAddress><b:StreetName>S1</b:StreetName><b:AdditionalStreetName>S2</b:AdditionalStreetName>
<b:CityName>S3</b:CityName><b:PostalZone>S4</b:PostalZone><b:CountrySubentity>S5</b:CountrySubentity>
<a:AddressLine><b:Line>S6</b:Line></a:AddressLine>
<a:Country><b:IdentificationCode>DE</b:IdentificationCode></a:Country></a:PostalAddress>
<a:PartyTaxScheme><b:CompanyID>DE 123 456 789</b:CompanyID><a:TaxScheme><b:ID>VAT</b:ID></a:TaxScheme>
</a:PartyTaxScheme><a:PartyTaxScheme><b:CompanyID>LOCAL1</b:CompanyID></a:PartyTaxScheme>
<a:PartyLegalEntity><b:RegistrationName>Seller GmbH</b:RegistrationName>
<b:CompanyID>HRB1</b:CompanyID><b:CompanyLegalForm>GmbH</b:CompanyLegalForm></a:PartyLegalEntity>
<a:Contact><b:Name>N</b:Name><b:Telephone>1</b:Telephone><b:ElectronicMail>e@x</b:ElectronicMail></a:Contact>
</a:Party></a:AccountingSupplierParty>
<a:AccountingCustomerParty><a:Party><b:EndpointID>b@example.org</b:EndpointID>
<a:PartyIdentification><b:ID>BUY1</b:ID></a:PartyIdentification>
<a:PartyName><b:Name>Buyer Trade</b:Name></a:PartyName>
<a:PostalAddress><b:StreetName>B1</b:StreetName><b:AdditionalStreetName>B2</b:AdditionalStreetName>
<b:CityName>B3</b:CityName><b:PostalZone>B4</b:PostalZone><b:CountrySubentity>B5</b:CountrySubentity>
<a:AddressLine><b:Line>B6</b:Line></a:AddressLine>
<a:Country><b:IdentificationCode>FR</b:IdentificationCode></a:Country></a:PostalAddress>
<a:PartyTaxScheme><b:CompanyID>FR1</b:CompanyID><a:TaxScheme><b:ID>VAT</b:ID></a:TaxScheme></a:PartyTaxScheme>
<a:PartyLegalEntity><b:RegistrationName>Buyer SA</b:RegistrationName><b:CompanyID>SIREN1</b:CompanyID>
</a:PartyLegalEntity>
<a:Contact><b:Name>M</b:Name><b:Telephone>2</b:Telephone><b:ElectronicMail>f@x</b:ElectronicMail></a:Contact>
</a:Party></a:AccountingCustomerParty>
<a:PayeeParty><a:PartyIdentification><b:ID>PAY1</b:ID></a:PartyIdentification>
<a:PartyName><b:Name>Factor</b:Name></a:PartyName>
<a:PartyLegalEntity><b:CompanyID>PAYL</b:CompanyID></a:PartyLegalEntity></a:PayeeParty>
<a:TaxRepresentativeParty><a:PartyName><b:Name>Rep</b:Name></a:PartyName>
<a:PostalAddress><b:StreetName>R1</b:StreetName><b:AdditionalStreetName>R2</b:AdditionalStreetName>
<b:CityName>R3</b:CityName><b:PostalZone>R4</b:PostalZone><b:CountrySubentity>R5</b:CountrySubentity>
<a:AddressLine><b:Line>R6</b:Line></a:AddressLine>
<a:Country><b:IdentificationCode>IT</b:IdentificationCode></a:Country></a:PostalAddress>
<a:PartyTaxScheme><b:CompanyID>IT1</b:CompanyID><a:TaxScheme><b:ID>VAT</b:ID></a:TaxScheme></a:PartyTaxScheme>
</a:TaxRepresentativeParty>
<a:Delivery><b:ActualDeliveryDate>2026-11-19</b:ActualDeliveryDate>
<a:DeliveryLocation><b:ID>L1</b:ID><a:Address><b:StreetName>D1</b:StreetName>
<b:AdditionalStreetName>D2</b:AdditionalStreetName><b:CityName>D3</b:CityName>
<b:PostalZone>D4</b:PostalZone><b:CountrySubentity>D5</b:CountrySubentity>
<a:AddressLine><b:Line>D6</b:Line></a:AddressLine>
<a:Country><b:IdentificationCode>ES</b:IdentificationCode></a:Country></a:Address></a:DeliveryLocation>
<a:DeliveryParty><a:PartyName><b:Name>Depot</b:Name></a:PartyName></a:DeliveryParty></a:Delivery>
<a:PaymentMeans><b:PaymentMeansCode name="Transfer">58</b:PaymentMeansCode><b:PaymentID>REM</b:PaymentID>
<a:CardAccount><b:PrimaryAccountNumberID>1234</b:PrimaryAccountNumberID><b:HolderName>H</b:HolderName>
</a:CardAccount><a:PayeeFinancialAccount><b:ID>DE02</b:ID><b:Name>Acc</b:Name>
<a:FinancialInstitutionBranch><b:ID>BIC</b:ID></a:FinancialInstitutionBranch></a:PayeeFinancialAccount>
<a:PaymentMandate><b:ID>MAN</b:ID><a:PayerFinancialAccount><b:ID>FR76</b:ID></a:PayerFinancialAccount>
</a:PaymentMandate></a:PaymentMeans>
<a:PaymentMeans><b:PaymentMeansCode>58</b:PaymentMeansCode><b:PaymentID>REM</b:PaymentID>
<a:PayeeFinancialAccount><b:ID>DE03</b:ID></a:PayeeFinancialAccount></a:PaymentMeans>
<a:PaymentTerms><b:Note>30 days</b:Note></a:PaymentTerms>
<a:AllowanceCharge><b:ChargeIndicator>false</b:ChargeIndicator>
<b:AllowanceChargeReasonCode>95</b:AllowanceChargeReasonCode>
<b:AllowanceChargeReason>Discount</b:AllowanceChargeReason>
<b:MultiplierFactorNumeric>10</b:MultiplierFactorNumeric><b:Amount currencyID="EUR">10.00</b:Amount>
<b:BaseAmount currencyID="EUR">100.00</b:BaseAmount><a:TaxCategory><b:ID>S</b:ID>
<b:Percent>19</b:Percent><a:TaxScheme><b:ID>VAT</b:ID></a:TaxScheme></a:TaxCategory></a:AllowanceCharge>
<a:AllowanceCharge><b:ChargeIndicator>1</b:ChargeIndicator>
<b:AllowanceChargeReasonCode>FC</b:AllowanceChargeReasonCode>
<b:AllowanceChargeReason>Freight</b:AllowanceChargeReason>
<b:MultiplierFactorNumeric>5</b:MultiplierFactorNumeric><b:Amount currencyID="EUR">5.00</b:Amount>
<b:BaseAmount currencyID="EUR">100.00</b:BaseAmount><a:TaxCategory><b:ID>S</b:ID>
<b:Percent>19</b:Percent><a:TaxScheme><b:ID>VAT</b:ID></a:TaxScheme></a:TaxCategory></a:AllowanceCharge>
<a:TaxTotal><b:TaxAmount currencyID="EUR">18.05</b:TaxAmount>
<a:TaxSubtotal><b:TaxableAmount currencyID="EUR">95.00</b:TaxableAmount>
<b:TaxAmount currencyID="EUR">18.05</b:TaxAmount><a:TaxCategory><b:ID>S</b:ID><b:Percent>19</b:Percent>
<b:TaxExemptionReasonCode>VATEX-EU-O</b:TaxExemptionReasonCode>
<b:TaxExemptionReason>none</b:TaxExemptionReason>
<a:TaxScheme><b:ID>VAT</b:ID></a:TaxScheme></a:TaxCategory></a:TaxSubtotal></a:TaxTotal>
<a:TaxTotal><b:TaxAmount currencyID="SEK">200.10</b:TaxAmount></a:TaxTotal>
<a:LegalMonetaryTotal><b:LineExtensionAmount currencyID="EUR">100.00</b:LineExtensionAmount>
<b:TaxExclusiveAmount currencyID="EUR">95.00</b:TaxExclusiveAmount>
<b:TaxInclusiveAmount currencyID="EUR">113.05</b:TaxInclusiveAmount>
<b:AllowanceTotalAmount currencyID="EUR">10.00</b:AllowanceTotalAmount>
<b:ChargeTotalAmount currencyID="EUR">5.00</b:ChargeTotalAmount>
<b:PrepaidAmount currencyID="EUR">13.00</b:PrepaidAmount>
<b:PayableRoundingAmount currencyID="EUR">-0.05</b:PayableRoundingAmount>
<b:PayableAmount currencyID="EUR">100.00</b:PayableAmount></a:LegalMonetaryTotal>
<a:InvoiceLine><b:ID>1</b:ID><b:Note>LN</b:Note><b:InvoicedQuantity unitCode="C62">3</b:InvoicedQuantity>
<b:LineExtensionAmount currencyID="EUR">100.00</b:LineExtensionAmount><b:AccountingCost>LK</b:AccountingCost>
<a:InvoicePeriod><b:StartDate>2026-11-01</b:StartDate><b:EndDate>2026-11-02</b:EndDate></a:InvoicePeriod>
<a:OrderLineReference><b:LineID>7</b:LineID></a:OrderLineReference>
<a:DocumentReference><b:ID>LO</b:ID><b:DocumentTypeCode>130</b:DocumentTypeCode></a:DocumentReference>
<a:AllowanceCharge><b:ChargeIndicator>false</b:ChargeIndicator>
<b:AllowanceChargeReasonCode>95</b:AllowanceChargeReasonCode><b:AllowanceChargeReason>r</b:AllowanceChargeReason>
<b:MultiplierFactorNumeric>1</b:MultiplierFactorNumeric><b:Amount currencyID="EUR">1.00</b:Amount>
<b:BaseAmount currencyID="EUR">100.00</b:BaseAmount></a:AllowanceCharge>
<a:AllowanceCharge><b:ChargeIndicator>true</b:ChargeIndicator>
<b:AllowanceChargeReasonCode>FC</b:AllowanceChargeReasonCode><b:AllowanceChargeReason>r</b:AllowanceChargeReason>
<b:MultiplierFactorNumeric>1</b:MultiplierFactorNumeric><b:Amount currencyID="EUR">1.01</b:Amount>
<b:BaseAmount currencyID="EUR">101.00</b:BaseAmount></a:AllowanceCharge>
<a:Item><b:Description>Long</b:Description><b:Name>Paper</b:Name>
<a:BuyersItemIdentification><b:ID>BI</b:ID></a:BuyersItemIdentification>
<a:SellersItemIdentification><b:ID>SI</b:ID></a:SellersItemIdentification>
<a:StandardItemIdentification><b:ID>GTIN</b:ID></a:StandardItemIdentification>
<a:OriginCountry><b:IdentificationCode>CN</b:IdentificationCode></a:OriginCountry>
<a:CommodityClassification><b:ItemClassificationCode listID="STL" listVersionID="2">4810</b:ItemClassificationCode>
</a:CommodityClassification>
<a:ClassifiedTaxCategory><b:ID>S</b:ID><b:Percent>19</b:Percent><a:TaxScheme><b:ID>VAT</b:ID></a:TaxScheme>
</a:ClassifiedTaxCategory>
<a:AdditionalItemProperty><b:Name>Colour</b:Name><b:Value>white</b:Value></a:AdditionalItemProperty></a:Item>
<a:Price><b:PriceAmount currencyID="EUR">33.3333333</b:PriceAmount>
<b:BaseQuantity unitCode="C62">1</b:BaseQuantity><a:AllowanceCharge>
<b:ChargeIndicator>false</b:ChargeIndicator><b:Amount currencyID="EUR">0.0022</b:Amount>
<b:BaseAmount currencyID="EUR">33.3355333</b:BaseAmount></a:AllowanceCharge></a:Price>
</a:InvoiceLine></Invoice>"##;

/// A red 数电票 with two rates and one exempt line.
pub const SHUDIAN: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<EInvoice><Header><EIid>26442000000000000002</EIid><EInvoiceTag>SWEI4400</EInvoiceTag><Version>0.37</Version>
<InherentLabel><InIssuType><LabelCode>N</LabelCode><LabelName>是否蓝字发票标志</LabelName></InIssuType>
<EInvoiceType><LabelCode>01</LabelCode><LabelName>电子发票</LabelName></EInvoiceType>
<GeneralOrSpecialVAT><LabelCode>01</LabelCode><LabelName>增值税专用发票</LabelName></GeneralOrSpecialVAT>
</InherentLabel><UndefinedLabel><Label/><Label/></UndefinedLabel></Header><EInvoiceData>
<SellerInformation><SellerIdNum>91440300708461136T</SellerIdNum><SellerName>卖方有限公司</SellerName>
<SellerAddr>深圳</SellerAddr><SellerTelNum>0755</SellerTelNum><SellerBankName>银行</SellerBankName>
<SellerBankAccNum>6222</SellerBankAccNum></SellerInformation>
<BuyerInformation><BuyerIdNum>915300007194052520</BuyerIdNum><BuyerName>买方有限公司</BuyerName>
<BuyerAddr>昆明</BuyerAddr><BuyerTelNum>0871</BuyerTelNum></BuyerInformation>
<BasicInformation><TotalAmWithoutTax>-160.00</TotalAmWithoutTax><TotalTaxAm>-16.05</TotalTaxAm>
<TotalTax-includedAmount>-176.05</TotalTax-includedAmount><Drawer>张三</Drawer>
<RequestTime>2026-11-20 07:30:00</RequestTime></BasicInformation>
<IssuItemInformation><ItemName>*纸*纸</ItemName><SpecMod>A4</SpecMod><MeaUnits>箱</MeaUnits>
<Quantity>-2</Quantity><UnPrice>50</UnPrice><Amount>-100.00</Amount><TaxRate>0.13</TaxRate>
<ComTaxAm>-13.05</ComTaxAm><TotaltaxIncludedAmount>-113.05</TotaltaxIncludedAmount>
<TaxClassificationCode>1060512990000000000</TaxClassificationCode></IssuItemInformation>
<IssuItemInformation><ItemName>*服务*服务</ItemName><Amount>-50.00</Amount><TaxRate>6%</TaxRate>
<ComTaxAm>-3.00</ComTaxAm></IssuItemInformation>
<IssuItemInformation><ItemName>*书*书</ItemName><Amount>-10.00</Amount><TaxRate>免税</TaxRate>
<ComTaxAm>***</ComTaxAm></IssuItemInformation>
<SpecificInformation><RedEInvoice><OriginalInvoiceCode>26442000000000000001</OriginalInvoiceCode>
<CreditNoteNumber>44030000000000000002</CreditNoteNumber></RedEInvoice></SpecificInformation>
<AdditionalInformation><Remark>退货</Remark></AdditionalInformation></EInvoiceData>
<TaxSupervisionInfo><InvoiceNumber>26442000000000000002</InvoiceNumber><IssueTime>2026-11-21</IssueTime>
<TaxBureauCode>14403000000</TaxBureauCode><TaxBureauName>国家税务总局深圳市税务局</TaxBureauName>
</TaxSupervisionInfo></EInvoice>"#;
