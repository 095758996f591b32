//! The regions of Alibaba Cloud.
//!
//! Source: Alibaba Cloud's documentation "Regions and zones" (`help.aliyun.com/document_detail/40654.html`, and
//! `alibabacloud.com/help/en/ecs/product-overview/regions-and-zones`). The list holds only facts, which no licence covers. The
//! documentation lacks some Japanese names; these follow the pattern of the documented names. The list omits closed regions
//! (Sydney, Mumbai) and the finance and government clouds, which are not public.

/// Id, then the names in Chinese, English and Japanese.
pub(super) const REGIONS: &[(&str, &str, &str, &str)] = &[
    ("ap-northeast-1", "日本（东京）", "Japan (Tokyo)", "日本 (東京)"),
    ("ap-northeast-2", "韩国（首尔）", "South Korea (Seoul)", "韓国 (ソウル)"),
    ("ap-southeast-1", "新加坡", "Singapore", "シンガポール"),
    (
        "ap-southeast-3",
        "马来西亚（吉隆坡）",
        "Malaysia (Kuala Lumpur)",
        "マレーシア (クアラルンプール)",
    ),
    (
        "ap-southeast-5",
        "印度尼西亚（雅加达）",
        "Indonesia (Jakarta)",
        "インドネシア (ジャカルタ)",
    ),
    (
        "ap-southeast-6",
        "菲律宾（马尼拉）",
        "Philippines (Manila)",
        "フィリピン (マニラ)",
    ),
    (
        "ap-southeast-7",
        "泰国（曼谷）",
        "Thailand (Bangkok)",
        "タイ (バンコク)",
    ),
    ("cn-beijing", "华北2（北京）", "China (Beijing)", "中国 (北京)"),
    ("cn-chengdu", "西南1（成都）", "China (Chengdu)", "中国 (成都)"),
    (
        "cn-fuzhou",
        "华东6（福州-本地地域）",
        "China (Fuzhou - Local Region)",
        "中国 (福州 - ローカルリージョン)",
    ),
    ("cn-guangzhou", "华南3（广州）", "China (Guangzhou)", "中国 (広州)"),
    ("cn-hangzhou", "华东1（杭州）", "China (Hangzhou)", "中国 (杭州)"),
    ("cn-heyuan", "华南2（河源）", "China (Heyuan)", "中国 (河源)"),
    ("cn-hongkong", "中国香港", "China (Hong Kong)", "中国 (香港)"),
    ("cn-huhehaote", "华北5（呼和浩特）", "China (Hohhot)", "中国 (フフホト)"),
    (
        "cn-nanjing",
        "华东5（南京-本地地域）",
        "China (Nanjing - Local Region)",
        "中国 (南京 - ローカルリージョン)",
    ),
    ("cn-qingdao", "华北1（青岛）", "China (Qingdao)", "中国 (青島)"),
    ("cn-shanghai", "华东2（上海）", "China (Shanghai)", "中国 (上海)"),
    ("cn-shenzhen", "华南1（深圳）", "China (Shenzhen)", "中国 (深圳)"),
    (
        "cn-wuhan-lr",
        "华中1（武汉-本地地域）",
        "China (Wuhan - Local Region)",
        "中国 (武漢 - ローカルリージョン)",
    ),
    (
        "cn-wulanchabu",
        "华北6（乌兰察布）",
        "China (Ulanqab)",
        "中国 (ウランチャブ)",
    ),
    (
        "cn-zhangjiakou",
        "华北3（张家口）",
        "China (Zhangjiakou)",
        "中国 (張家口)",
    ),
    (
        "eu-central-1",
        "德国（法兰克福）",
        "Germany (Frankfurt)",
        "ドイツ (フランクフルト)",
    ),
    ("eu-west-1", "英国（伦敦）", "UK (London)", "英国 (ロンドン)"),
    (
        "me-central-1",
        "沙特（利雅得）",
        "Saudi Arabia (Riyadh)",
        "サウジアラビア (リヤド)",
    ),
    ("me-east-1", "阿联酋（迪拜）", "UAE (Dubai)", "UAE (ドバイ)"),
    ("na-south-1", "墨西哥", "Mexico", "メキシコ"),
    ("us-east-1", "美国（弗吉尼亚）", "US (Virginia)", "米国 (バージニア)"),
    (
        "us-west-1",
        "美国（硅谷）",
        "US (Silicon Valley)",
        "米国 (シリコンバレー)",
    ),
];
