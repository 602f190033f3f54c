//! Makes names, addresses and codes that look like those of real parties and goods.
//!
//! Half of the sellers write Chinese and half Latin text, so that every text limit, normal form
//! and column sees both.
//!
//! Invariants
//! - Every unified social credit code has the right check character.

use crate::rng::Rng;

const CODE_ALPHABET: &[u8] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";

/// City in Chinese, in Latin letters, and the division code of GB/T 2260.
pub(crate) const CITIES: &[(&str, &str, &str)] = &[
    ("北京市", "Beijing", "110105"),
    ("上海市", "Shanghai", "310115"),
    ("深圳市", "Shenzhen", "440300"),
    ("广州市", "Guangzhou", "440106"),
    ("杭州市", "Hangzhou", "330106"),
    ("苏州市", "Suzhou", "320505"),
    ("成都市", "Chengdu", "510107"),
    ("武汉市", "Wuhan", "420111"),
    ("青岛市", "Qingdao", "370212"),
    ("厦门市", "Xiamen", "350203"),
    ("西安市", "Xi'an", "610113"),
    ("长沙市", "Changsha", "430104"),
];
const WORDS: &[(&str, &str)] = &[
    ("华信", "Huaxin"),
    ("云帆", "Yunfan"),
    ("博远", "Boyuan"),
    ("金穗", "Jinsui"),
    ("恒达", "Hengda"),
    ("明德", "Mingde"),
    ("蓝海", "Lanhai"),
    ("启航", "Qihang"),
    ("瑞丰", "Ruifeng"),
    ("天工", "Tiangong"),
    ("众合", "Zhonghe"),
    ("嘉禾", "Jiahe"),
    ("沃尔", "Wöhler"),
    ("穆勒", "Müller"),
    ("贝朗", "Béranger"),
    ("诺华", "Nørvik"),
];
const TRADES: &[(&str, &str)] = &[
    ("信息技术", "Information Technology"),
    ("机电设备", "Machinery"),
    ("供应链管理", "Supply Chain"),
    ("贸易", "Trading"),
    ("医疗器械", "Medical Devices"),
    ("食品", "Foods"),
    ("建筑材料", "Building Materials"),
    ("物流", "Logistics"),
    ("电子", "Electronics"),
    ("纺织", "Textiles"),
];
const FORMS: &[(&str, &str)] =
    &[("有限公司", "Co., Ltd."), ("股份有限公司", "Corporation"), ("有限责任公司", "Ltd")];
const STREETS: &[(&str, &str)] = &[
    ("人民路", "Renmin Road"),
    ("建设大道", "Jianshe Avenue"),
    ("科技园南路", "Science Park South Road"),
    ("中山北路", "Zhongshan North Road"),
    ("滨江东路", "Binjiang East Road"),
];
const SURNAMES: &[(&str, &str)] = &[
    ("王", "Wang"),
    ("李", "Li"),
    ("张", "Zhang"),
    ("刘", "Liu"),
    ("陈", "Chen"),
    ("杨", "Yang"),
    ("赵", "Zhao"),
    ("欧阳", "Ouyang"),
];
const GIVEN: &[(&str, &str)] = &[
    ("伟", "Wei"),
    ("芳", "Fang"),
    ("敏", "Min"),
    ("静怡", "Jingyi"),
    ("建国", "Jianguo"),
    ("思远", "Siyuan"),
    ("丽华", "Lihua"),
    ("浩然", "Haoran"),
];

/// A kind of goods: name in Chinese and Latin letters, model, unit, usual rate in percent, price in
/// hundredths of a minor unit at its lowest, classification code.
#[derive(Debug)]
pub(crate) struct Goods {
    pub(crate) chinese: &'static str,
    pub(crate) latin: &'static str,
    pub(crate) model: &'static str,
    pub(crate) unit: (&'static str, &'static str),
    pub(crate) rate: u8,
    pub(crate) price: u64,
    pub(crate) code: &'static str,
}

macro_rules! goods {
    ($($zh:literal, $en:literal, $model:literal, $uz:literal, $ue:literal, $rate:literal,
       $price:literal, $code:literal;)*) => {
        &[$(Goods { chinese: $zh, latin: $en, model: $model, unit: ($uz, $ue), rate: $rate,
                    price: $price, code: $code },)*]
    };
}

/// Goods and services; those with one rate stand together.
pub(crate) const GOODS: &[Goods] = goods![
    "*电子计算机*笔记本电脑", "Notebook computer", "X1-14", "台", "pc", 13, 32_000_000, "1090501010000000000";
    "*纸制品*复印纸", "Copy paper A4 80 g", "A4", "箱", "box", 13, 950_000, "1060105020000000000";
    "*金属制品*不锈钢螺栓", "Stainless bolt M8×40", "M8×40", "件", "pc", 13, 12_500, "1080401030000000000";
    "*化学纤维*涤纶长丝", "Polyester filament", "150D/48F", "吨", "t", 13, 74_000_000, "1070401000000000000";
    "*医疗仪器器械*一次性注射器", "Syringe 5 ml", "5ml", "支", "pc", 13, 3_800, "1090301080000000000";
    "*照明装置*LED灯管", "LED tube 18 W", "T8-18W", "支", "pc", 13, 145_000, "1090419030000000000";
    "*塑料制品*包装薄膜", "Packaging film", "PE-50", "千克", "kg", 13, 86_000, "1070601110000000000";
    "*家具*办公椅", "Office chair", "K-7", "把", "pc", 13, 3_900_000, "1050101030000000000";
    "*运输服务*货物运输", "Freight", "", "次", "trip", 9, 8_000_000, "3010102020100000000";
    "*谷物*大米", "Rice", "10kg", "袋", "bag", 9, 460_000, "1010101010000000000";
    "*建筑服务*工程款", "Construction works", "", "项", "lot", 9, 990_000_000, "3050200000000000000";
    "*信息技术服务*软件服务费", "Software service", "", "月", "month", 6, 12_000_000, "3040201040000000000";
    "*住宿服务*住宿费", "Hotel night", "", "晚", "night", 6, 3_800_000, "3070402000000000000";
    "*餐饮服务*餐费", "Catering", "", "次", "service", 6, 1_200_000, "3070401000000000000";
    "*经纪代理服务*代理费", "Agency fee", "", "次", "service", 6, 5_000_000, "3040801000000000000";
    "*水资源*自来水", "Tap water", "", "立方米", "m3", 3, 29_000, "1100301010000000000";
    "*砂石*天然砂", "Sand", "", "吨", "t", 3, 850_000, "1020401020000000000";
    "*二手车*乘用车", "Used passenger car", "", "辆", "pc", 1, 480_000_000, "1090305010000000000";
    "*蔬菜*新鲜蔬菜", "Fresh vegetables", "", "千克", "kg", 0, 45_000, "1010115000000000000";
    "*图书*技术书籍", "Technical books", "", "本", "copy", 0, 480_000, "1060201010000000000";
];

fn choose(chinese: bool, pair: &(&'static str, &'static str)) -> &'static str {
    if chinese { pair.0 } else { pair.1 }
}

/// The name of a company, with the city in which it sits.
pub(crate) fn company(
    rng: &mut Rng,
    chinese: bool,
) -> (String, &'static (&'static str, &'static str, &'static str)) {
    let city = rng.pick(CITIES);
    let (word, trade) = (rng.pick(WORDS), rng.pick(TRADES));
    let form = choose(chinese, rng.pick(FORMS));
    let (word, trade) = (choose(chinese, word), choose(chinese, trade));
    let name = match chinese {
        true => format!("{}{word}{trade}{form}", city.0),
        false => format!("{word} {trade} ({}) {form}", city.1),
    };
    (name, city)
}

/// The name of a person.
pub(crate) fn person(rng: &mut Rng, chinese: bool) -> String {
    let (surname, given) = (rng.pick(SURNAMES), rng.pick(GIVEN));
    match chinese {
        true => format!("{}{}", surname.0, given.0),
        false => format!("{} {}", given.1, surname.1),
    }
}

/// An address and a telephone number in one line, as Chinese invoices have it.
pub(crate) fn address(rng: &mut Rng, chinese: bool, city: &(&str, &str, &str)) -> String {
    let street = choose(chinese, rng.pick(STREETS));
    let (number, phone) = (1 + rng.below(998), 10_000_000 + rng.below(89_999_999));
    match chinese {
        true => format!("{}{street}{number}号 0755-{phone}", city.0),
        false => format!("{number} {street}, {} +86 755 {phone}", city.1),
    }
}

/// A unified social credit code (GB 32100-2015) with its check character.
pub(crate) fn credit_code(rng: &mut Rng, division: &str) -> String {
    let mut code = format!("91{division}").into_bytes();
    for _ in 0..9 {
        code.push(*rng.pick(CODE_ALPHABET));
    }
    with_check(&String::from_utf8_lossy(&code))
}

/// Seventeen characters of a credit code with their check character.
pub(crate) fn with_check(code: &str) -> String {
    let (mut sum, mut weight) = (0, 1);
    for byte in code.bytes() {
        let value = CODE_ALPHABET.iter().position(|known| *known == byte).unwrap_or(0);
        sum += value * weight;
        weight = weight * 3 % 31;
    }
    format!("{code}{}", char::from(CODE_ALPHABET[(31 - sum % 31) % 31]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;
    use piaogen_verify::scheme::credit_code_holds;

    #[test]
    fn codes_hold_and_goods_are_sorted_by_rate() {
        for i in 0..500 {
            let mut rng = Rng::new(3, Purpose::Party, i);
            let code = credit_code(&mut rng, CITIES[i as usize % CITIES.len()].2);
            assert!(credit_code_holds(&code), "{code}");
        }
        assert!(GOODS.is_sorted_by(|a, b| a.rate >= b.rate));
        assert!(GOODS.iter().all(|goods| goods.code.len() == 19));
    }
}
